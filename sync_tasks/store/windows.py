"""Retry windows: opened by the first failure of a kind on a side, closed by success; the scheduler sees them pass."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from sync_tasks import lifecycle
from sync_tasks.errors import KeyferryError, Retry, Side
from sync_tasks.models import RetryWindow, Task
from sync_tasks.retry_policy import pause
from sync_tasks.retry_window import Lengths, Window
from sync_tasks.states import RUNNING, TaskState
from sync_tasks.store import sharing
from sync_tasks.views import RetryView

STREAM = "stream"
LOAD = "load"


def failed(session: Session, task: Task, error: KeyferryError, origin: str, now: float, rng: Random) -> float:
    """Count a failure that a retry may heal; seconds to pause. Whether a window is past, the scheduler says alone.

    Args:
        now: Unix seconds.
    """
    if task.state not in RUNNING:
        # A job that has not heard yet that its task rests or has ended: no window may wait for the next run.
        return pause(1, rng)
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
    return pause(window.attempts, rng)


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
    if is_open(session, task):
        return len(found)
    if task.state == TaskState.RETRYING:
        lifecycle.move(session, task, lifecycle.phase(session, task.id), "goes on")
    if task.error is not None and task.state in RUNNING:
        task.error = None
    return len(found)


def is_open(session: Session, task: Task) -> bool:
    """Whether the task has an open window."""
    mine = select(func.count()).select_from(RetryWindow).where(RetryWindow.task_id == task.id)
    return bool(session.scalar(mine))


def view(rows: Sequence[RetryWindow], lengths: Lengths, now: float) -> list[RetryView]:
    """Copies of one task's windows for showing."""
    return [
        RetryView(
            kind=row.kind,
            side=row.side,
            attempts=row.attempts,
            seconds_left=Window(row.wall_from, row.seen_s).left(lengths.minutes(row.kind) * 60.0, now),
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
    window = RetryWindow(
        task_id=task.id,
        kind=error.retry.value,
        side=error.side.value,
        origin=origin,
        attempts=1,
        opened_at=datetime.fromtimestamp(now, UTC),
        wall_from=now,
        seen_s=0.0,
        error=lifecycle.as_dict(error),
    )
    session.add(window)
    session.flush()
    held = sharing.lengths(session, [task.id])[task.id]
    whose = of_whom(held) if error.retry is Retry.CONNECTION else ""
    lifecycle.note(session, task.id, "retry", f"{error.line()}: retried for {held.minutes(error.retry)} minutes{whose}")
    return window


def of_whom(lengths: Lengths) -> str:
    """Of whose settings a window for failed connections is, as a clause; empty if they are the task's own."""
    held = lengths.connection
    return "" if held.by is None else f", the retry time of task {held.by} ({held.by_name}) on the same server"
