"""Which databases and keys a task copies, and how that may change (`sync_tasks.extent`).

Once copying has begun, what is taken away goes in one transaction; for what is added, a worker first looks at both
servers. `Task.extents` then has the database of Keyferry's keys, which stays where it was, and all extents of the run
so far.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync_tasks.errors import ControlError, UsageError
from sync_tasks.extent import Extent
from sync_tasks.models import Node, Task
from sync_tasks.spec import TaskSpec, mapping
from sync_tasks.store import rows


def of(task: Task, spec: TaskSpec | None = None) -> Extent:
    """By a task's settings, or by others. Raises UsageError if they contradict its URLs."""
    spec = spec or rows.spec_of(task)
    return Extent.of(mapping(spec.databases, task.source_db, task.target_db), spec.filter)


def begun(session: Session, task: Task) -> bool:
    """Whether a snapshot was begun."""
    return session.scalar(select(Node.id).where(Node.task_id == task.id, Node.gen > 0).limit(1)) is not None


def widens(session: Session, task: Task, spec: TaskSpec) -> bool:
    """Whether settings add something to what is copied already.

    Raises:
        ControlError: they change it while it is loaded: its loaders all go by one extent.
        UsageError: they contradict the task's URLs, or there is a transform.
    """
    before, after = of(task), of(task, spec)
    if before == after or not begun(session, task):
        return False
    loading = select(Node.id).where(Node.task_id == task.id, Node.gen > 0, Node.begun.is_(False)).limit(1)
    if session.scalar(loading) is not None:
        raise ControlError(
            "which databases and keys are copied cannot change while a snapshot is loaded",
            hint="wait until it is synchronizing, or restart it with the new settings",
            code="loading",
        )
    if before.covers(after):
        return False
    if spec.transform.active or rows.spec_of(task).transform.active:
        raise UsageError(
            "databases and keys cannot be added to a task with a transform: which of its keys the source has deleted"
            " since they were copied last could not be told",
            hint="restart the task with the new settings, or make another for what is added",
            code="transform",
        )
    return True


def keep(session: Session, task: Task, spec: TaskSpec) -> None:
    """Remember what is given up with new settings, if they change what is copied."""
    before = of(task)
    if before != of(task, spec) and begun(session, task):
        view = rows.task_view(task)
        task.extents = {"home": view.home, "former": list(dict.fromkeys([*view.former, before.text]))}


def refuse(session: Session, task: Task, spec: TaskSpec) -> None:
    """Raise UsageError if settings change what is copied, once that has begun."""
    before, after = of(task), of(task, spec)
    if before == after or not begun(session, task):
        return
    databases = before.databases != after.databases
    what = "the databases to copy" if databases else "which keys to copy"
    raise UsageError(
        f"{what} cannot change here once copying has begun",
        hint="use the same as before, or change them with `keyferry task modify`",
        code="databases" if databases else "filter",
    )
