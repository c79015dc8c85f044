"""Which messages to send: work that is due and that nobody has, or whose message was lost."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, String, and_, cast, literal, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from sync_tasks import names
from sync_tasks.models import Chunk, Lease, Node, Task
from sync_tasks.retry_policy import LONGEST_S
from sync_tasks.states import RUNNING, ChunkState

FOLLOW_AGAIN_S = 3.0
"""A stream message that nobody has claimed for so long is sent again."""

LOAD_AGAIN_S = 5.0
"""The same for chunks, if their queue is empty: as long as it is not, they only wait."""

BATCH = 500
"""Chunks sent per tick at most: a tick stays short whatever has piled up."""


@dataclass(slots=True)
class Due:
    """Ids to send. `stale` chunks were sent before: they may be lost, or wait in the queue."""

    nodes: list[int] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)
    stale: list[int] = field(default_factory=list)


def look(session: Session, wall: float) -> Due:
    """What is due at wall time `wall` (Unix seconds): two queries."""
    lease = Lease.name == literal(names.node_lease(0).removesuffix("0")) + cast(Node.id, String)
    nodes = (
        select(Node.id)
        .join(Lease, lease)
        .where(
            Node.wanted,
            Lease.owner.is_(None),
            _is_due(Node.next_at, wall),
            _is_old(Node.dispatched_at, wall, FOLLOW_AGAIN_S),
        )
    )
    chunks = (
        select(Chunk.id, Chunk.dispatched_at)
        .join(Node, and_(Node.id == Chunk.node_id, Node.gen == Chunk.gen))
        .join(Task, Task.id == Chunk.task_id)
        .where(
            Chunk.state == ChunkState.READY,
            Task.state.in_(RUNNING),
            _is_due(Chunk.next_at, wall),
            _is_old(Chunk.dispatched_at, wall, LOAD_AGAIN_S),
        )
        # Never sent before those sent; PostgreSQL and SQLite disagree on where NULL sorts.
        .order_by(Chunk.dispatched_at.is_not(None), Chunk.id)
        .limit(BATCH)
    )
    due = Due(nodes=list(session.scalars(nodes)))
    for chunk_id, dispatched_at in session.execute(chunks):
        (due.chunks if dispatched_at is None else due.stale).append(chunk_id)
    return due


def mark(session: Session, nodes: list[int], chunks: list[int], at: float | None) -> None:
    """Note when these were sent (Unix seconds); None: not sent after all."""
    if nodes:
        session.execute(update(Node).where(Node.id.in_(nodes)).values(dispatched_at=at))
    if chunks:
        session.execute(update(Chunk).where(Chunk.id.in_(chunks)).values(dispatched_at=at))


Stamp = InstrumentedAttribute[float | None]


def _is_due(column: Stamp, wall: float) -> ColumnElement[bool]:
    # A pause longer than any we make shows that the wall clock was set back.
    return or_(column.is_(None), column <= wall, column > wall + 2 * LONGEST_S)


def _is_old(column: Stamp, wall: float, age_s: float) -> ColumnElement[bool]:
    return or_(column.is_(None), column <= wall - age_s, column > wall + age_s)
