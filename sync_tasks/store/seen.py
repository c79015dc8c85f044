"""Whether a task is still as it was: what displays ask several times a second."""

from __future__ import annotations

from collections.abc import Hashable

from sqlalchemy import func, select

from sync_tasks.models import Chunk, Lease, Node, RetryWindow, Task
from sync_tasks.states import ChunkState
from sync_tasks.store import leases
from sync_tasks.store.base import StoreBase
from sync_tasks.store.query import Query

# All tasks: those on the same servers have a say in each other's retry windows.
TASKS = Query(select(*Task.__table__.columns).order_by(Task.id))
NODES = Query(
    select(*Node.__table__.columns, Lease.epoch).outerjoin(Lease, Lease.name == leases.OF_NODE).order_by(Node.id)
)
CHUNKS = Query(select(Chunk.state, func.count()).group_by(Chunk.state).order_by(Chunk.state))
MOVING = Query(select(Chunk.id).where(Chunk.state.in_([ChunkState.READY, ChunkState.RUNNING])).limit(1))
WINDOWS = Query(select(RetryWindow.id).limit(1))


class Seen(StoreBase):
    """Looks at a database of few tasks."""

    def seen(self) -> Hashable | None:
        """What equals the last answer as long as nothing has changed; None: chunks are being loaded, or time counts
        against a retry window."""
        with self.database.rows() as rows:
            if rows(MOVING) or rows(WINDOWS):
                return None
            return tuple(tuple(rows(query)) for query in (TASKS, NODES, CHUNKS))
