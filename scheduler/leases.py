"""Taking away what dead owners hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from sqlalchemy import String, cast, literal, select, tuple_, update
from sqlalchemy.orm import Session

from scheduler.watch import Mark, Watch
from sync_tasks import names
from sync_tasks.models import Chunk, Lease, Node
from sync_tasks.states import ChunkState
from sync_tasks.store import orphans


@dataclass(slots=True)
class Dead:
    """Leases by name and chunks by id, with the mark under which each was seen to stand still."""

    leases: dict[str, Mark] = field(default_factory=dict)
    chunks: dict[int, Mark] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.leases or self.chunks)


class Reaper:
    """Watches node leases and running chunks by the scheduler's lived time."""

    def __init__(self) -> None:
        self._leases: Watch[str] = Watch()
        self._chunks: Watch[int] = Watch()

    def look(self, session: Session, now: float) -> Dead:
        """What stands still at lived time `now`: two queries."""
        held = select(Lease.name, Lease.epoch, Lease.beat).where(
            Lease.owner.is_not(None), Lease.name != names.SCHEDULER_LEASE
        )
        running = select(Chunk.id, Chunk.epoch, Chunk.beat).where(Chunk.state == ChunkState.RUNNING)
        leases = {name: (epoch, beat) for name, epoch, beat in session.execute(held)}
        chunks = {chunk_id: (epoch, beat) for chunk_id, epoch, beat in session.execute(running)}
        return Dead(
            {name: leases[name] for name in self._leases.expired(leases, now)},
            {chunk_id: chunks[chunk_id] for chunk_id in self._chunks.expired(chunks, now)},
        )


def free(session: Session, dead: Dead, wall: float, rng: Random) -> list[str]:
    """Free what is dead, if it still stands as seen; what was freed, for the log.

    Args:
        wall: Unix seconds, for the pauses of chunks.
    """
    return [*_free_leases(session, dead.leases), *_free_chunks(session, dead.chunks, wall, rng)]


def _free_leases(session: Session, dead: dict[str, Mark]) -> list[str]:
    if not dead:
        return []
    marks = [(name, epoch, beat) for name, (epoch, beat) in dead.items()]
    freed = session.scalars(
        update(Lease)
        .where(tuple_(Lease.name, Lease.epoch, Lease.beat).in_(marks))
        .values(owner=None)
        .returning(Lease.name)
        .execution_options(synchronize_session=False)
    ).all()
    prefix = names.node_lease(0).removesuffix("0")
    session.execute(
        update(Node)
        .where((literal(prefix) + cast(Node.id, String)).in_(freed))
        .values(dispatched_at=None, next_at=None, in_sync=False, delay_ms=None)
        .execution_options(synchronize_session=False)
    )
    return list(freed)


def _free_chunks(session: Session, dead: dict[int, Mark], wall: float, rng: Random) -> list[str]:
    if not dead:
        return []
    marks = [(chunk_id, epoch, beat) for chunk_id, (epoch, beat) in dead.items()]
    found = session.scalars(
        select(Chunk)
        .where(Chunk.state == ChunkState.RUNNING, tuple_(Chunk.id, Chunk.epoch, Chunk.beat).in_(marks))
        .with_for_update(skip_locked=True)
    ).all()
    orphans.free(session, found, wall, rng)
    return [f"chunk:{chunk.id}" for chunk in found]
