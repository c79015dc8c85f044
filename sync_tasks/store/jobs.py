"""Jobs: streams and chunks that workers claim, give back, or fail over."""

from __future__ import annotations

import logging

from sqlalchemy import update

from sync_tasks import lifecycle, names
from sync_tasks.errors import KeyferryError, Retry
from sync_tasks.models import Chunk, Node, Task
from sync_tasks.retry_policy import LONGEST_S, pause
from sync_tasks.states import RUNNING, ChunkState
from sync_tasks.store import leases, locks, outgoing, receiving, rows, windows
from sync_tasks.store.base import StoreBase
from sync_tasks.store.chunk import ChunkHandle
from sync_tasks.store.stream import StreamHandle
from sync_tasks.views import STORED

log = logging.getLogger(__name__)

SPOILED = {"snapshot-damaged": "damaged", "source-restarted": "outdated"}
"""Codes of errors that ask for another snapshot, and what it is called then (`workers.spool.damage`)."""


class Jobs(StoreBase):
    """What workers ask for, by the id in a message."""

    def claim_node(self, node_id: int, owner: str, spool: str | None = None) -> StreamHandle | None:
        """The stream job of a node, or None if it is another's, not wanted, or not due yet.

        Of a message that nobody took at once there may be several: without this, each would be an attempt.

        Args:
            spool: id of the spool that the owner writes to; None: one that all workers share.
        """
        with self.database.write() as session:
            node = session.get(Node, node_id)
            if node is None or not node.wanted or not due(node.next_at, self._clock()):
                return None
            epoch = leases.claim(session, names.node_lease(node_id), owner)
            if epoch is None:
                return None
            # What we have read may be older than our claim: another may have had it meanwhile.
            session.refresh(node)
            if not node.wanted:
                leases.release(session, names.node_lease(node_id), epoch)
                return None
            moved = node.spool != spool
            session.execute(
                update(Node)
                .where(Node.id == node_id)
                .values(in_sync=False, settled=False, delay_ms=None, turn=False, resting=False)
            )
            task = session.get_one(Task, node.task_id)
            receives = receiving.is_received(task, node)
            seen = rows.task_view(task)
        return StreamHandle(
            self.database, seen, node_id, owner, epoch, self._publish_chunks, self._clock, self._rng, spool, moved,
            receives,
        )  # fmt: skip

    def release_node(self, node_id: int, epoch: int) -> None:
        """Give a stream job back, if it is still held under that epoch; a wanted one is sent again."""
        with self.database.write() as session:
            if leases.release(session, names.node_lease(node_id), epoch):
                session.execute(
                    update(Node)
                    .where(Node.id == node_id)
                    .values(dispatched_at=None, in_sync=False, delay_ms=None, resting=False)
                )

    def claim_chunk(self, chunk_id: int, owner: str) -> ChunkHandle | None:
        """A chunk to load, or None: taken, done, void, not due yet, or its task does not run."""
        with self.database.write() as session:
            # Who holds the row claims it, voids it, or makes it due again and so has it sent: nothing to wait for.
            chunk = session.get(Chunk, chunk_id, with_for_update={"skip_locked": True})
            if chunk is None or chunk.state != ChunkState.READY or not due(chunk.next_at, self._clock()):
                return None
            node = session.get_one(Node, chunk.node_id)
            task = session.get_one(Task, chunk.task_id)
            if chunk.gen != node.gen or task.state not in RUNNING:
                return None
            chunk.state = ChunkState.RUNNING
            chunk.owner = owner
            chunk.epoch += 1
            chunk.beat = 0
            chunk.keys_done = 0
            return ChunkHandle(self.database, rows.task_view(task), rows.chunk_view(chunk), node.number, owner)

    def chunk_failed(self, chunk_id: int, epoch: int, error: KeyferryError) -> None:
        """A load failed: READY again after a pause, or the end of the task. Nothing if it is another's."""
        with self.database.write() as session:
            chunk = session.get(Chunk, chunk_id)
            if chunk is None:
                return
            task = locks.task(session, chunk.task_id)
            session.refresh(chunk, with_for_update=True)
            if chunk.epoch != epoch or chunk.state != ChunkState.RUNNING:
                return
            now = self._clock()
            chunk.state = ChunkState.READY
            chunk.owner = None
            chunk.attempts += 1
            chunk.keys_done = 0
            chunk.dispatched_at = None
            chunk.next_at = now + pause(chunk.attempts, self._rng)
            if chunk.path.startswith(STORED) and error.code in SPOILED:
                # Who takes another snapshot cannot see a mark among this host's files.
                node = session.get_one(Node, chunk.node_id, with_for_update=True)
                if node.gen == chunk.gen:
                    node.spoiled = f"{chunk.gen} {SPOILED[error.code]}"
            if task.state not in RUNNING:
                return
            if error.retry is Retry.FATAL:
                lifecycle.fail(session, task, error)
            else:
                windows.failed(session, task, error, windows.LOAD, now, self._rng)

    def _publish_chunks(self, chunk_ids: list[int]) -> None:
        """Send LOAD after a commit; what cannot be sent is left to the scheduler."""
        failed = chunk_ids if self._sender is None else []
        if self._sender is not None:
            with self.database.read() as session:
                due = outgoing.loads(session, chunk_ids)
            for message in due:
                try:
                    self._sender(message)
                except Exception as error:  # noqa: BLE001 - any transport, any failure of it
                    log.warning("chunk %d could not be sent: %s", message.id, type(error).__name__)
                    failed.append(message.id)
        if failed:
            with self.database.write() as session:
                mine = locks.idle(session, Chunk, failed)
                session.execute(update(Chunk).where(Chunk.id.in_(mine)).values(dispatched_at=None))


def due(next_at: float | None, now: float) -> bool:
    """Whether a pause is over. One longer than any we make shows that the wall clock was set back."""
    return next_at is None or next_at <= now or next_at > now + 2 * LONGEST_S
