"""Retry windows: opened by the first failure of a kind on a side, closed by success, or past."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from sync_tasks import lifecycle
from sync_tasks.errors import KeyferryError, Retry, Side
from sync_tasks.models import RetryWindow, Task
from sync_tasks.retry_policy import pause
from sync_tasks.states import RUNNING, TaskState
from sync_tasks.views import RetryView

STREAM = "stream"
LOAD = "load"


def is_past(window: RetryWindow, now: float) -> bool:
    """Whether the wall clock and the scheduler's monotonic clock have both seen all of it.

    Either alone lies: the wall clock can jump, and the other stands while nothing of ours runs.
    """
    return now >= window.deadline and window.seen_s >= window.length_s


def failed(
    session: Session, task: Task, error: KeyferryError, origin: str, now: float, rng: Random
) -> tuple[float, bool]:
    """Count a failure that a retry may heal. The pause in seconds, and whether its window is past."""
    window = session.scalar(
        select(RetryWindow).where(
            RetryWindow.task_id == task.id, RetryWindow.kind == error.retry, RetryWindow.side == error.side
        )
    )
    if window is None:
        window = _open(session, task, error, origin, now)
    else:
        window.attempts += 1
        window.error = lifecycle.as_dict(error)
    if error.side is Side.CONTROL:
        # A full disk is shown while the task waits.
        task.error = lifecycle.as_dict(error)
    if lifecycle.can(task, TaskState.RETRYING):
        lifecycle.move(session, task, TaskState.RETRYING, f"{error.side.value}: {error.message}")
    return pause(window.attempts, rng), is_past(window, now)


def close(session: Session, task: Task, where: ColumnElement[bool]) -> int:
    """Close the task's windows that match; when none is left, the task goes on where it was. How many."""
    mine = RetryWindow.task_id == task.id
    found = session.scalars(select(RetryWindow).where(mine, where)).all()
    for window in found:
        lifecycle.note(
            session,
            task.id,
            "healed",
            f"{window.side}: {window.kind} works again after {window.attempts} failures",
        )
    if found:
        session.execute(delete(RetryWindow).where(RetryWindow.id.in_([window.id for window in found])))
    if session.scalar(select(func.count()).select_from(RetryWindow).where(mine)):
        return len(found)
    if task.state == TaskState.RETRYING:
        lifecycle.move(session, task, lifecycle.phase(session, task.id), "goes on")
    if task.error is not None and task.state in RUNNING:
        task.error = None
    return len(found)


def view(rows: Sequence[RetryWindow], now: float) -> list[RetryView]:
    """Copies for showing."""
    return [
        RetryView(
            kind=row.kind,
            side=row.side,
            attempts=row.attempts,
            seconds_left=max(0.0, row.deadline - now, row.length_s - row.seen_s),
            code=row.error["code"],
            last_error=_line(row.error),
            opened_at=row.opened_at,
        )
        for row in rows
    ]


def _line(error: dict[str, str]) -> str:
    text = f"{error['side']}: {error['message']}"
    return f"{text} ({error['hint']})" if error["hint"] else text


def _open(session: Session, task: Task, error: KeyferryError, origin: str, now: float) -> RetryWindow:
    retry = task.spec["retry"]
    minutes = retry["connection_min"] if error.retry is Retry.CONNECTION else retry["other_min"]
    window = RetryWindow(
        task_id=task.id,
        kind=error.retry.value,
        side=error.side.value,
        origin=origin,
        attempts=1,
        deadline=now + minutes * 60.0,
        length_s=minutes * 60.0,
        seen_s=0.0,
        error=lifecycle.as_dict(error),
    )
    session.add(window)
    session.flush()
    lifecycle.note(session, task.id, "retry", f"{error.line()}: retried for {minutes} minutes")
    return window
