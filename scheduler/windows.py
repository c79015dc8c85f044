"""Deadlines of retry windows."""

from __future__ import annotations

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from sync_tasks import lifecycle
from sync_tasks.errors import KeyferryError, Retry, Side
from sync_tasks.models import RetryWindow, Task
from sync_tasks.store import locks
from sync_tasks.store.windows import is_past

FLUSH_S = 1.0
"""How often the time seen is written."""


class Deadlines:
    """Counts the lived time of open windows and finds those that are past."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._last: float | None = None

    def look(self, session: Session, now: float) -> tuple[set[int], float]:
        """Windows that have been open since the last flush, and seconds to add to them: one query."""
        found = set(session.scalars(select(RetryWindow.id)))
        if self._last is None:
            self._known, self._last = found, now
        passed = now - self._last
        if passed < FLUSH_S:
            return set(), 0.0
        lived = self._known & found
        self._known, self._last = found, now
        return lived, passed


def advance(session: Session, lived: set[int], passed: float, wall: float) -> list[str]:
    """Add the time seen to windows; tasks of those that are past fail, once. What failed, for the log."""
    touched = select(RetryWindow.task_id).where(or_(RetryWindow.id.in_(lived), RetryWindow.deadline <= wall))
    tasks = locks.tasks(session, session.scalars(touched))
    mine = RetryWindow.task_id.in_(tasks)
    session.execute(
        update(RetryWindow)
        .where(mine, RetryWindow.id.in_(lived))
        .values(seen_s=RetryWindow.seen_s + passed)
        .execution_options(synchronize_session=False)
    )
    rows = session.scalars(select(RetryWindow).where(mine, RetryWindow.deadline <= wall)).all()
    return [_fail(session, tasks[row.task_id], row) for row in rows if is_past(row, wall)]


def _fail(session: Session, task: Task, window: RetryWindow) -> str:
    error = KeyferryError(
        f"{window.error['message']}, for {window.length_s / 60:.0f} min",
        hint=window.error["hint"],
        code=window.error["code"],
        side=Side(window.side),
        retry=Retry.FATAL,
    )
    lifecycle.fail(session, task, error)
    return f"task {task.id}: {error.line()}"
