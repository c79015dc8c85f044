"""Leases: one owner of a job, told from its predecessors by a growing epoch.

No clock stands in a lease. The owner counts `beat` up; who watches (the scheduler) takes it away when neither
epoch nor beat has changed for a while of the watcher's own monotonic time.
"""

from __future__ import annotations

from sqlalchemy import String, bindparam, cast, literal, select, update
from sqlalchemy.orm import Session

from sync_tasks import names
from sync_tasks.errors import Fenced
from sync_tasks.models import Lease, Node
from sync_tasks.store.database import Rows
from sync_tasks.store.query import Query

OF_NODE = literal(names.node_lease(0).removesuffix("0")) + cast(Node.id, String)
"""`names.node_lease` in SQL."""


def claim(session: Session, name: str, owner: str) -> int | None:
    """The new epoch if the lease was free, else None."""
    return session.scalar(
        update(Lease)
        .where(Lease.name == name, Lease.owner.is_(None))
        .values(owner=owner, epoch=Lease.epoch + 1, beat=0)
        .returning(Lease.epoch)
        .execution_options(synchronize_session=False)
    )


OURS = (Lease.name == bindparam("lease"), Lease.owner == bindparam("of"), Lease.epoch == bindparam("under"))
"""In queries: the lease is still held."""

HELD = select(Lease.epoch).where(*OURS).with_for_update().exists()
"""The same in a statement on other rows, from which on it stays so until the transaction ends."""

BEAT = Query(
    update(Lease)
    .where(*OURS)
    .values(beat=Lease.beat + 1)
    .returning(Lease.beat)
)


def renew(rows: Rows, name: str, owner: str, epoch: int) -> None:
    """One beat. Raises Fenced if the lease is another's."""
    if not rows(BEAT, lease=name, of=owner, under=epoch):
        raise lost(name)


def guard(session: Session, name: str, owner: str, epoch: int) -> None:
    """Raise Fenced unless the lease is still held; it then stays so until the transaction ends."""
    held = session.scalar(
        select(Lease.epoch).where(Lease.name == name, Lease.owner == owner, Lease.epoch == epoch).with_for_update()
    )
    if held is None:
        raise lost(name)


def raise_epoch(session: Session, name: str, owner: str, epoch: int, higher: int) -> None:
    """Go on under a higher epoch. Raises Fenced if the lease is another's."""
    found = session.scalar(
        update(Lease)
        .where(Lease.name == name, Lease.owner == owner, Lease.epoch == epoch)
        .values(epoch=max(epoch, higher), beat=0)
        .returning(Lease.epoch)
        .execution_options(synchronize_session=False)
    )
    if found is None:
        raise lost(name)


def release(session: Session, name: str, epoch: int) -> bool:
    """Free the lease if it is still of that epoch; whether it was."""
    found = session.scalar(
        update(Lease)
        .where(Lease.name == name, Lease.epoch == epoch, Lease.owner.is_not(None))
        .values(owner=None)
        .returning(Lease.epoch)
        .execution_options(synchronize_session=False)
    )
    return found is not None


def lost(name: str) -> Fenced:
    """The error of an owner that is none any more."""
    return Fenced(f"the lease {name} was taken over", hint="nothing to do: its new owner goes on")
