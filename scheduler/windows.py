"""Retry windows in the database: what was seen of them is written, and tasks of those that are past fail."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler.deadlines import Mark
from sync_tasks import lifecycle
from sync_tasks.errors import KeyferryError, Retry, Side
from sync_tasks.models import RetryWindow, Task
from sync_tasks.retry_window import Lengths, Open, Window, past
from sync_tasks.store import locks, sharing, windows


def look(session: Session) -> set[Mark]:
    """The windows that are open: one query."""
    return {(row_id, at) for row_id, at in session.execute(select(RetryWindow.id, RetryWindow.opened_at))}


def advance(session: Session, lived: set[Mark], passed: float, wall: float) -> list[str]:
    """Add the time seen to windows; tasks of those that are past fail, once. What failed, for the log.

    Args:
        lived: windows that were open all this time.
        passed: seconds of lived time.
        wall: Unix seconds.
    """
    tasks = locks.tasks(session, session.scalars(select(RetryWindow.task_id).distinct()))
    mine = select(RetryWindow).where(RetryWindow.task_id.in_(tasks)).order_by(RetryWindow.id)
    rows = {row.id: row for row in session.scalars(mine)}
    lengths = sharing.lengths(session, tasks.values())
    for row in rows.values():
        seen = Window(row.wall_from, row.seen_s).lived(passed if (row.id, row.opened_at) in lived else 0.0, wall)
        row.wall_from, row.seen_s = seen.wall_from, seen.seen_s
    opened = [Open(row.id, row.task_id, row.kind, Window(row.wall_from, row.seen_s)) for row in rows.values()]
    dead = past(opened, lengths, wall)
    return [_fail(session, tasks[task_id], rows[one.id], lengths[task_id]) for task_id, one in dead.items()]


def _fail(session: Session, task: Task, window: RetryWindow, lengths: Lengths) -> str:
    whose = windows.of_whom(lengths) if window.kind == Retry.CONNECTION else ""
    error = KeyferryError(
        f"{window.error['message']}, for {lengths.minutes(window.kind)} min{whose}",
        hint=window.error["hint"],
        code=window.error["code"],
        side=Side(window.side),
        retry=Retry.FATAL,
    )
    lifecycle.fail(session, task, error)
    return f"task {task.id}: {error.line()}"
