"""Taking away what dead owners hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from sqlalchemy import select, tuple_, update
from sqlalchemy.orm import Session

from scheduler.watch import Mark, Watch
from sync_tasks import names
from sync_tasks.models import Chunk, Lease, Op
from sync_tasks.states import ChunkState, OpState
from sync_tasks.store import locks, orphans
from sync_tasks.store.database import Rows
from sync_tasks.store.query import Query

HELD = Query(
    select(Lease.name, Lease.epoch, Lease.beat).where(Lease.owner.is_not(None), Lease.name != names.SCHEDULER_LEASE)
)
LOADING = Query(select(Chunk.id, Chunk.epoch, Chunk.beat).where(Chunk.state == ChunkState.RUNNING))
AT_WORK = Query(select(Op.id, Op.epoch, Op.beat).where(Op.state == OpState.RUNNING))


@dataclass(slots=True)
class Dead:
    """Leases by name, chunks and operations by id, with the mark under which each was seen to stand still."""

    leases: dict[str, Mark] = field(default_factory=dict)
    chunks: dict[int, Mark] = field(default_factory=dict)
    ops: dict[int, Mark] = field(default_factory=dict)


class Reaper:
    """Watches node leases and running chunks by the scheduler's lived time."""

    def __init__(self) -> None:
        self._leases: Watch[str] = Watch()
        self._chunks: Watch[int] = Watch()
        self._ops: Watch[int] = Watch()

    def look(self, rows: Rows, now: float) -> Dead:
        """What stands still at lived time `now`: three queries."""
        leases = {name: (epoch, beat) for name, epoch, beat in rows(HELD)}
        chunks = {chunk_id: (epoch, beat) for chunk_id, epoch, beat in rows(LOADING)}
        ops = {op_id: (epoch, beat) for op_id, epoch, beat in rows(AT_WORK)}
        return Dead(
            {name: leases[name] for name in self._leases.expired(leases, now)},
            {chunk_id: chunks[chunk_id] for chunk_id in self._chunks.expired(chunks, now)},
            {op_id: ops[op_id] for op_id in self._ops.expired(ops, now)},
        )


def free_leases(session: Session, dead: dict[str, Mark]) -> list[str]:
    """Free leases that still stand as seen, and have their jobs sent; what was freed, for the log."""
    locks.leases(session, dead)
    marks = [(name, epoch, beat) for name, (epoch, beat) in dead.items()]
    freed = session.scalars(
        update(Lease)
        .where(tuple_(Lease.name, Lease.epoch, Lease.beat).in_(marks))
        .values(owner=None)
        .returning(Lease.name)
        .execution_options(synchronize_session=False)
    ).all()
    orphans.free_nodes(session, freed)
    return list(freed)


def free_chunks(session: Session, dead: dict[int, Mark], wall: float, rng: Random) -> list[str]:
    """The same for chunks.

    Args:
        wall: Unix seconds, for their pauses.
    """
    marks = [(chunk_id, epoch, beat) for chunk_id, (epoch, beat) in dead.items()]
    found = orphans.free_chunks(session, tuple_(Chunk.id, Chunk.epoch, Chunk.beat).in_(marks), wall, rng)
    return [f"chunk:{chunk.id}" for chunk in found]


def free_ops(session: Session, dead: dict[int, Mark]) -> list[str]:
    """Make operations that still stand as seen READY again; what was freed, for the log."""
    marks = [(op_id, epoch, beat) for op_id, (epoch, beat) in dead.items()]
    still = locks.idle(session, Op, list(dead))  # who holds the row beats, or ends it
    freed = session.scalars(
        update(Op)
        .where(Op.id.in_(still), Op.state == OpState.RUNNING, tuple_(Op.id, Op.epoch, Op.beat).in_(marks))
        .values(state=OpState.READY, owner=None, dispatched_at=None)
        .returning(Op.id)
        .execution_options(synchronize_session=False)
    ).all()
    return [f"operation {op_id}" for op_id in freed]
