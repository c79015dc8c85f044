"""Retry windows in the database: what was seen of them is written, and tasks of those that are past fail."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from scheduler.deadlines import Mark
from sync_tasks import lifecycle
from sync_tasks.errors import KeyferryError, Retry, Side
from sync_tasks.models import RetryWindow, Task
from sync_tasks.retry_window import Lengths, Open, Window, past
from sync_tasks.store import locks, sharing, windows
from sync_tasks.store.query import Query

ANY = Query(select(RetryWindow.id).limit(1))

COLUMNS = (
    RetryWindow.id, RetryWindow.opened_at, RetryWindow.task_id, RetryWindow.kind, RetryWindow.wall_from,
    RetryWindow.seen_s,
)  # fmt: skip


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
    held = locks.task_ids(session, session.scalars(select(RetryWindow.task_id).distinct()))
    mine = RetryWindow.task_id.in_(held)
    rows = session.execute(select(*COLUMNS).where(mine).order_by(RetryWindow.id)).all()
    counted = {row.id for row in rows if (row.id, row.opened_at) in lived}
    _write(session, counted, passed, RetryWindow.id.in_([row.id for row in rows if row.wall_from > wall]), wall)
    opened = [
        Open(row.id, row.task_id, row.kind, Window(row.wall_from, row.seen_s).lived(passed * (row.id in counted), wall))
        for row in rows
    ]
    lengths = sharing.lengths(session, held)
    dead = past(opened, lengths, wall)
    return [_fail(session, task_id, one.id, lengths[task_id]) for task_id, one in dead.items()]


def _write(session: Session, counted: set[int], passed: float, ahead: ColumnElement[bool], wall: float) -> None:
    """What `Window.lived` says, in two statements however many there are."""
    change = update(RetryWindow).execution_options(synchronize_session=False)
    session.execute(change.where(RetryWindow.id.in_(counted)).values(seen_s=RetryWindow.seen_s + passed))
    session.execute(change.where(ahead).values(wall_from=wall))


def _fail(session: Session, task_id: int, window_id: int, lengths: Lengths) -> str:
    task, window = session.get_one(Task, task_id), session.get_one(RetryWindow, window_id)
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
