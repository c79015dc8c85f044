"""One look at the store: what displays show and the outcome is decided on."""

from __future__ import annotations

from sqlalchemy import func, select

from sync_tasks import names
from sync_tasks.models import Chunk, Lease, Node
from sync_tasks.states import RUNNING, ChunkState, TaskState
from sync_tasks.store import Store
from sync_tasks.supervise.outcome import DatabaseLoad, Reading


def read(store: Store, task_id: int) -> Reading:
    """The task, its nodes, retry windows, and the load of each database. Raises ControlError."""
    # The chunks after the nodes: a chunk is recorded before `snapshot_done` says that there are no more.
    task, nodes, retries = store.task(task_id), store.nodes(task_id), store.retries(task_id)
    return Reading(task=task, nodes=tuple(nodes), retries=tuple(retries), loads=loads(store, task_id))


def loads(store: Store, task_id: int) -> tuple[DatabaseLoad, ...]:
    """Chunks of the present snapshots by source database, as far as they were received."""
    query = (
        select(
            Chunk.db,
            Chunk.state,
            func.count(),
            func.sum(Chunk.keys),
            func.sum(Chunk.keys_done),
            func.sum(Chunk.bytes),
        )
        .join(Node, (Node.id == Chunk.node_id) & (Node.gen == Chunk.gen))
        .where(Chunk.task_id == task_id)
        .group_by(Chunk.db, Chunk.state)
    )
    found: dict[int, DatabaseLoad] = {}
    with store.database.read() as session:
        rows = session.execute(query).all()
    for db, state, count, keys, keys_done, size in rows:
        # A chunk that is void in its own snapshot is on the target: the stream had begun when it was voided.
        over = state in (ChunkState.DONE, ChunkState.VOID)
        old = found.get(db, DatabaseLoad(db=db, chunks={}, keys=0, keys_done=0, bytes=0, bytes_done=0))
        found[db] = DatabaseLoad(
            db=db,
            chunks={**old.chunks, ChunkState(state): int(count)},
            keys=old.keys + int(keys),
            keys_done=old.keys_done + int(keys if over else keys_done),
            bytes=old.bytes + int(size),
            bytes_done=old.bytes_done + int(size if over else 0),
        )
    return tuple(found[db] for db in sorted(found))


def owned(store: Store, task_id: int) -> bool:
    """Whether a stream job of the task still holds its node."""
    with store.database.read() as session:
        ids = session.scalars(select(Node.id).where(Node.task_id == task_id)).all()
        leases = [names.node_lease(node_id) for node_id in ids]
        query = select(func.count()).where(Lease.name.in_(leases), Lease.owner.is_not(None))
        return bool(session.scalar(query))


def release_all(store: Store) -> None:
    """Free whatever a predecessor held. Who has DIR's lock knows that all of it is dead."""
    with store.database.read() as session:
        owners = set(session.scalars(select(Lease.owner).where(Lease.owner.is_not(None))))
    for owner in owners:
        if owner is not None:
            store.release_owner(":".join(owner.split(":")[:2]))


def suspend(store: Store, task_id: int) -> None:
    """The task rests until the next start; one that has failed or ended stays so."""
    if store.task(task_id).state in RUNNING:
        store.transition(task_id, TaskState.SUSPENDED, "stopped")
