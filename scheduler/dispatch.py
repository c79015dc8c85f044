"""Which messages to send: work that is due and that nobody has, or whose message was lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Float, Select, and_, bindparam, not_, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from scheduler.pauses import Held
from sync_tasks import names
from sync_tasks.messages import Message
from sync_tasks.models import Chunk, Lease, Node, Op, Task
from sync_tasks.retry_policy import LONGEST_S
from sync_tasks.states import RUNNING, ChunkState, OpKind, OpState
from sync_tasks.store import leases, locks, outgoing
from sync_tasks.store.database import Rows
from sync_tasks.store.query import Query

FOLLOW_AGAIN_S = 3.0
"""A stream message that nobody has claimed for so long is sent again."""

ELSEWHERE_S = 0.4
"""A stream whose log lies in some host's own spool is offered to that host first, after so long to all."""

LITTLE_BYTES = 64 << 10
"""So much of the stream that waits on disk every source's backlog still has."""

OP_AGAIN_S = 2.0
"""An operation that nobody could claim: its task's stream may not have ended yet."""

LOAD_AGAIN_S = 5.0
"""The same for chunks and parts, if their queue is empty: as long as it is not, they only wait."""

BATCH = 500
"""Chunks sent per tick at most: a tick stays short whatever has piled up."""


WALL = bindparam("wall", type_=Float(53))
"""The wall clock in Unix seconds, in the queries below."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is due: ids of chunks, of streams and of operations, and what `Due` says about them."""

    chunks: dict[int, bool]  # whether each was sent before
    nodes: dict[int, bool]
    bound: set[int]
    ops: list[int]
    parts: dict[int, bool] = field(default_factory=dict)  # of verifications; whether each was sent before

    def __bool__(self) -> bool:
        return bool(self.chunks or self.nodes or self.ops or self.parts)


@dataclass(slots=True)
class Due:
    """Messages to send. `stale` ones, of chunks and parts, were sent before: they may be lost, or wait in their queue.

    Streams are listed apart: `nodes` of their ids, and whether they were sent before; `bound` those for which something
    lies in some host's own spool that another host could not get any more.
    """

    nodes: dict[int, bool] = field(default_factory=dict)
    bound: set[int] = field(default_factory=set)
    messages: list[Message] = field(default_factory=list)
    stale: list[Message] = field(default_factory=list)


def look(rows: Rows, wall: float, held: Held = ()) -> Seen:
    """What is due at wall time `wall` (Unix seconds): three queries.

    Args:
        held: ends of pauses that are not over, whatever the wall clock shows: see `scheduler.pauses`.
    """
    chunks, nodes, ops = _queries(held) if held else USUAL
    found, asked = rows(nodes, wall=wall), rows(ops, wall=wall)
    return Seen(
        chunks={chunk_id: at is not None for chunk_id, at in rows(chunks, wall=wall)},
        nodes={node_id: at is not None for node_id, at, _ in found},
        bound={node_id for node_id, _, bound in found if bound},
        ops=[op_id for op_id, kind, _ in asked if kind != OpKind.PART],
        parts={op_id: at is not None for op_id, kind, at in asked if kind == OpKind.PART},
    )


def due(session: Session, seen: Seen) -> Due:
    """What to send of it: a query for each kind that is due."""
    loads, parts = outgoing.loads(session, seen.chunks), outgoing.ops(session, seen.parts)
    return Due(
        nodes=seen.nodes,
        bound=seen.bound,
        messages=[
            *(m for m in loads if not seen.chunks[m.id]), *outgoing.ops(session, seen.ops),
            *(m for m in parts if not seen.parts[m.id]),
        ],
        stale=[*(m for m in loads if seen.chunks[m.id]), *(m for m in parts if seen.parts[m.id])],
    )


def _queries(held: Held) -> tuple[Query, Query, Query]:
    return Query(_chunks(held)), Query(_nodes(held)), Query(_ops(held))


def _nodes(held: Held) -> Select[*tuple[Any, ...]]:
    again = _is_old(Node.dispatched_at, FOLLOW_AGAIN_S)
    elsewhere = and_(Node.spool.is_not(None), _is_old(Node.dispatched_at, ELSEWHERE_S))
    loading = and_(Node.gen > 0, Node.begun.is_(False))
    # What was received while the task was suspended the source may not have any more; `fresh`: until it is claimed.
    waiting = Node.received_offset > Node.applied_offset + LITTLE_BYTES
    received = and_(waiting, or_(Node.receive_bytes.is_not(None), Node.fresh))
    bound = and_(Node.spool.is_not(None), or_(loading, received))
    return (
        select(Node.id, Node.dispatched_at, bound)
        .join(Lease, Lease.name == leases.OF_NODE)
        .where(Node.wanted, Lease.owner.is_(None), _is_due(Node.next_at, held), or_(again, elsewhere))
    )


def _chunks(held: Held) -> Select[*tuple[Any, ...]]:
    return (
        select(Chunk.id, Chunk.dispatched_at)
        .join(Node, and_(Node.id == Chunk.node_id, Node.gen == Chunk.gen))
        .join(Task, Task.id == Chunk.task_id)
        .where(
            Chunk.state == ChunkState.READY,
            Task.state.in_(RUNNING),
            _is_due(Chunk.next_at, held),
            _is_old(Chunk.dispatched_at, LOAD_AGAIN_S),
        )
        # Never sent before those sent; PostgreSQL and SQLite disagree on where NULL sorts.
        .order_by(Chunk.dispatched_at.is_not(None), Chunk.id)
        .limit(BATCH)
    )


def _ops(held: Held) -> Select[*tuple[Any, ...]]:
    again = or_(
        and_(Op.kind != OpKind.PART, _is_old(Op.dispatched_at, OP_AGAIN_S)),
        and_(Op.kind == OpKind.PART, _is_old(Op.dispatched_at, LOAD_AGAIN_S)),
    )
    return (
        select(Op.id, Op.kind, Op.dispatched_at)
        .where(Op.state == OpState.READY, _is_due(Op.next_at, held), again)
        # Other operations before parts, and of those the ones never sent first.
        .order_by(Op.kind == OpKind.PART, Op.dispatched_at.is_not(None), Op.id)
        .limit(BATCH)
    )


TABLES: dict[str, type[Node] | type[Chunk] | type[Op]] = {
    names.FOLLOW: Node, names.LOAD: Chunk, names.OPS: Op, names.PART: Op,
}  # fmt: skip


def mark(session: Session, messages: list[Message], at: float | None) -> list[Message]:
    """Note when these are sent (Unix seconds); None: not sent after all. Those noted.

    A row that somebody holds at the moment is left out: it is being claimed, voided or made due anew.
    """
    noted: list[Message] = []
    for name, table in TABLES.items():
        mine = [message for message in messages if message.name == name]
        free = set(locks.idle(session, table, [message.id for message in mine]))
        if free:
            session.execute(update(table).where(table.id.in_(free)).values(dispatched_at=at))
        noted += [message for message in mine if message.id in free]
    return noted


Stamp = InstrumentedAttribute[float | None]


def _is_due(column: Stamp, held: Held) -> ColumnElement[bool]:
    # A pause longer than any we make shows that the wall clock was set back.
    over = or_(column <= WALL, column > WALL + 2 * LONGEST_S)
    return or_(column.is_(None), and_(over, *(not_(and_(column > low, column <= high)) for low, high in held)))


def _is_old(column: Stamp, age_s: float) -> ColumnElement[bool]:
    return or_(column.is_(None), column <= WALL - age_s, column > WALL + age_s)


USUAL = _queries(())
"""Without a jump of the clock: made once."""
