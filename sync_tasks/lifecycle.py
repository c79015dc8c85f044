"""The state machine of a task: each change in one transaction with its event."""

from __future__ import annotations

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from sync_tasks.errors import ControlError, KeyferryError
from sync_tasks.models import Event, Node, RetryWindow, Task
from sync_tasks.secrets import redact
from sync_tasks.states import RUNNING, TRANSITIONS, TaskState


def plain(text: str) -> str:
    """Text as it is stored: without credentials, and without what a database refuses in text (a key may hold it)."""
    return redact(text).encode(errors="backslashreplace").decode().replace("\0", "\\0")


def as_dict(error: KeyferryError) -> dict[str, str]:
    """An error as it is stored and shown in --json."""
    return {
        "code": error.code,
        "side": error.side.value,
        "message": plain(error.message),
        "hint": plain(error.hint),
    }


def note(session: Session, task_id: int, kind: str, text: str) -> None:
    """Record an event."""
    session.add(Event(task_id=task_id, kind=kind, text=plain(text)))


def can(task: Task, to: TaskState) -> bool:
    """Whether the task may go to that state."""
    return to in TRANSITIONS[TaskState(task.state)]


def move(session: Session, task: Task, to: TaskState, reason: str, error: KeyferryError | None = None) -> None:
    """Change the state and record why; nothing happens if the task is there already.

    Raises:
        ControlError: the table of states does not allow it.
    """
    if task.state == to:
        return
    if not can(task, to):
        raise ControlError(
            f"a task that is {task.state} cannot become {to.value}", hint="see its events", code="transition"
        )
    task.state = to.value
    if error is not None or to is not TaskState.RETRYING:
        task.error = as_dict(error) if error else None
    note(session, task.id, to.value, f"{reason}: {error.line()}" if error else reason)
    if to not in RUNNING:
        # A window belongs to a run: the next one begins with fresh deadlines.
        session.execute(delete(RetryWindow).where(RetryWindow.task_id == task.id))


def fail(session: Session, task: Task, error: KeyferryError) -> None:
    """End the task with an error, once; its stream is no longer wanted."""
    if task.state == TaskState.FAILED:
        return
    session.execute(update(Node).where(Node.task_id == task.id).values(wanted=False, resting=False))
    if can(task, TaskState.FAILED):
        move(session, task, TaskState.FAILED, "failed", error)
        return
    task.error = as_dict(error)
    note(session, task.id, "error", error.line())


def phase(session: Session, task_id: int) -> TaskState:
    """Where a running task without open windows belongs: synchronizing once all nodes stream."""
    waiting = session.scalar(select(func.count()).where(Node.task_id == task_id, Node.begun.is_(False)))
    return TaskState.INITIALIZING if waiting else TaskState.SYNCHRONIZING
