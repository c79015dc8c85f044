"""Owners of jobs, by name: who holds what, and the freeing of what the dead hold."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute

from sync_tasks import names
from sync_tasks.models import Chunk, Lease, Node, Op
from sync_tasks.states import ChunkState, OpState
from sync_tasks.store import leases, locks, orphans
from sync_tasks.store.base import StoreBase


class Owners(StoreBase):
    """Who holds leases, chunks and operations. A name is <host>:<worker's main process>:<process>:<random>."""

    def owners(self, prefix: str, *, ops: bool = False) -> list[str]:
        """Owners of leases and running chunks, and of operations if they are asked for, whose name begins so."""
        with self.database.read() as session:
            leases = session.scalars(select(Lease.owner).where(Lease.owner.startswith(prefix, autoescape=True)))
            chunks = session.scalars(
                select(Chunk.owner).where(
                    Chunk.state == ChunkState.RUNNING, Chunk.owner.startswith(prefix, autoescape=True)
                )
            )
            found = [owner for owner in [*leases, *chunks] if owner is not None]
            if ops:
                mine = Op.state == OpState.RUNNING, Op.owner.startswith(prefix, autoescape=True)
                found += [owner for owner in session.scalars(select(Op.owner).where(*mine)) if owner is not None]
            return found

    def owned(self, task_id: int) -> bool:
        """Whether a stream job of the task still holds its node."""
        with self.database.read() as session:
            ids = session.scalars(select(Node.id).where(Node.task_id == task_id)).all()
            leases = [names.node_lease(node_id) for node_id in ids]
            query = select(func.count()).where(Lease.name.in_(leases), Lease.owner.is_not(None))
            return bool(session.scalar(query))

    def at_work(self, task_id: int) -> bool:
        """Whether a stream job of the task does more than receive."""
        with self.database.read() as session:
            query = select(func.count()).select_from(Node).join(Lease, Lease.name == leases.OF_NODE)
            mine = (Node.task_id == task_id, Node.resting.is_(False), Lease.owner.is_not(None))
            return bool(session.scalar(query.where(*mine)))

    def release_owner(self, owner_prefix: str) -> None:
        """Free what owners so named hold: "host:pid" of a process known to be dead, and its children."""
        prefix = owner_prefix.rstrip(":")
        with self.database.write() as session:
            theirs = session.scalars(select(Lease.name).where(_is(Lease.owner, prefix))).all()
            locks.leases(session, theirs)
            freed = session.scalars(
                update(Lease)
                .where(Lease.name.in_(theirs), _is(Lease.owner, prefix))
                .values(owner=None)
                .returning(Lease.name)
            ).all()
            orphans.free_nodes(session, freed)
        with self.database.write() as session:
            orphans.free_chunks(session, _is(Chunk.owner, prefix), self._clock(), self._rng)
        with self.database.write() as session:
            orphans.free_ops(session, _is(Op.owner, prefix))

    def release_all(self) -> None:
        """Free what every owner of a lease holds: call it where all of them are known to be dead."""
        with self.database.read() as session:
            owners = set(session.scalars(select(Lease.owner).where(Lease.owner.is_not(None))))
        for owner in owners:
            if owner is not None:
                self.release_owner(":".join(owner.split(":")[:2]))


def _is(owner: InstrumentedAttribute[str | None], prefix: str) -> ColumnElement[bool]:
    return or_(owner == prefix, owner.startswith(prefix + ":", autoescape=True))
