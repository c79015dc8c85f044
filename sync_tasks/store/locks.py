"""Which rows are locked in which order, so that on PostgreSQL transactions wait for each other, never in a circle.

1. Leases first, by name (a scheduler its own before the others); then tasks, by id; then rows of those tasks.
2. Who changes several rows of a task holds the task. Who does not hold it changes one row, or takes only such
   rows as nobody else holds (`idle`).
3. What a transaction decides by, it reads after it has locked: until then another may have written.

SQLite has one writer at a time, and ignores FOR UPDATE.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync_tasks.errors import ControlError
from sync_tasks.models import Chunk, Lease, Node, Op, Task


def leases(session: Session, names: Collection[str]) -> None:
    """Hold these leases until the transaction ends."""
    if names:
        query = select(Lease.name).where(Lease.name.in_(names)).order_by(Lease.name)
        session.execute(query.with_for_update()).all()


def task(session: Session, task_id: int) -> Task:
    """Hold a task until the transaction ends. Raises ControlError if there is none."""
    return found(session.get(Task, task_id, with_for_update=True), task_id)


def tasks(session: Session, ids: Iterable[int]) -> dict[int, Task]:
    """Hold several tasks; those that exist, by id."""
    wanted = set(ids)
    if not wanted:
        return {}
    query = select(Task).where(Task.id.in_(wanted)).order_by(Task.id)
    return {row.id: row for row in session.scalars(query.with_for_update())}


def task_ids(session: Session, ids: Iterable[int]) -> list[int]:
    """Hold several tasks without reading them; those that exist."""
    query = select(Task.id).where(Task.id.in_(set(ids))).order_by(Task.id)
    return list(session.scalars(query.with_for_update()))


def idle(session: Session, table: type[Node] | type[Chunk] | type[Op], ids: Collection[int]) -> list[int]:
    """Of these rows those that nobody else holds; they are held until the transaction ends. Never waits."""
    if not ids:
        return []
    query = select(table.id).where(table.id.in_(ids)).with_for_update(skip_locked=True)
    taken = set(session.scalars(query))
    return [row_id for row_id in ids if row_id in taken]


def found(row: Task | None, task_id: int) -> Task:
    """The task, if there is one. Raises ControlError."""
    if row is None:
        raise ControlError(f"there is no task {task_id}", hint="give the id of a task that exists", code="no-task")
    return row
