"""How far a task is: what displays ask."""

from __future__ import annotations

from sqlalchemy import func, select

from sync_tasks.models import Chunk, Event, Node, RetryWindow
from sync_tasks.states import ChunkState
from sync_tasks.store import rows, sharing, windows
from sync_tasks.store.base import StoreBase
from sync_tasks.views import ChunkView, DatabaseLoad, EventView, NodeView, RetryView


class Progress(StoreBase):
    """Looks at tasks; writes nothing."""

    def nodes(self, task_id: int) -> list[NodeView]:
        """The task's nodes with their progress."""
        with self.database.read() as session:
            return rows.nodes(session, select(Node.id).where(Node.task_id == task_id))

    def chunks(self, task_id: int) -> list[ChunkView]:
        """The chunks of all the task's snapshots."""
        query = select(Chunk).where(Chunk.task_id == task_id).order_by(Chunk.id)
        with self.database.read() as session:
            return [rows.chunk_view(row) for row in session.scalars(query)]

    def loads(self, task_id: int) -> list[DatabaseLoad]:
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
        with self.database.read() as session:
            for db, state, count, keys, keys_done, size in session.execute(query):
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
        return [found[db] for db in sorted(found)]

    def retries(self, task_id: int) -> list[RetryView]:
        """Open retry windows, the one with the least time left first."""
        query = select(RetryWindow).where(RetryWindow.task_id == task_id)
        with self.database.read() as session:
            opened = session.scalars(query).all()
            if not opened:
                return []
            found = windows.view(opened, sharing.lengths(session, [task_id])[task_id], self._clock())
        return sorted(found, key=lambda window: window.seconds_left)

    def events(self, task_id: int, after_id: int = 0) -> list[EventView]:
        """Events younger than `after_id`, oldest first."""
        query = select(Event).where(Event.task_id == task_id, Event.id > after_id).order_by(Event.id)
        with self.database.read() as session:
            return [rows.event_view(row) for row in session.scalars(query)]
