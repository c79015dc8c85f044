"""A claimed chunk: every write is fenced by the chunk's epoch (`workers.ports.ChunkPort`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, case, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from sync_tasks import lifecycle
from sync_tasks.errors import Fenced, Side
from sync_tasks.models import Chunk, Node, RetryWindow, Task
from sync_tasks.states import RUNNING, ChunkState
from sync_tasks.store import windows
from sync_tasks.store.database import Database
from sync_tasks.throttle import FullThrottle, Limits, ThrottleSpec, load_limits, reading_limits
from sync_tasks.views import RANGE, ChunkView, TaskView

HUGE_FROM, HUGE_EACH = 1_000_000, 1000
"""Numbers of the chunks that a range's huge values are: each range has so many, behind those of all ranges."""


class ChunkHandle:
    """One load worker's hold on one chunk."""

    def __init__(self, database: Database, task: TaskView, chunk: ChunkView, node_number: int, owner: str) -> None:
        self.task = task
        self.chunk = chunk
        self.node_number = node_number
        self.owner = owner
        self.say: Callable[[str], None] = lambda _: None  # shows a line to people who watch the load
        self.limits = Limits()  # how fast it may write, as of the last beat
        self.asking = Limits()  # and ask the source
        self._db = database
        self._total: int | None = None  # chunks of the snapshot, once the last has arrived

    def renew(self, keys_done: int) -> None:
        """Beat and progress. Raises Fenced when taken away or void, or when the task runs no more."""
        # Not known while the snapshot arrives: asked in a statement that is sent anyway.
        asked = [] if self._total else [self._count()]
        answered = self._update(asked, beat=Chunk.beat + 1, keys_done=keys_done)
        if asked:
            (self._total,) = answered
        of = f" of {self._total}" if self._total else ""
        self.say(f"chunk {self.chunk.seq + 1}{of}: {keys_done} of {self.chunk.keys} keys")

    def was_read(self, path: str, keys: int, size: int) -> None:
        """The range that the chunk stands for is in that file. Raises Fenced as `renew`."""
        self._update([], path=path, keys=keys, bytes=size)
        self.chunk = replace(self.chunk, path=path, keys=keys, bytes=size)

    def add_huge(self, number: int, path: str, size: int) -> None:
        """Another chunk, READY, with the `number`th huge value of the same range; an earlier attempt at the range may
        have made one. Raises Fenced as `renew`."""
        seq = HUGE_FROM + self.chunk.seq * HUGE_EACH + number
        with self._db.write() as session:
            task = session.get_one(Task, self.task.id, with_for_update=True)
            mine = session.get_one(Chunk, self.chunk.id, with_for_update=True)
            held = mine.epoch == self.chunk.epoch and mine.owner == self.owner and mine.state == ChunkState.RUNNING
            if not held or task.state not in RUNNING:
                raise self._fenced()
            there = select(Chunk).where(Chunk.node_id == mine.node_id, Chunk.gen == mine.gen, Chunk.seq == seq)
            chunk = session.scalar(there)
            if chunk is None:
                chunk = Chunk(
                    node_id=mine.node_id, task_id=mine.task_id, gen=mine.gen, seq=seq, db=mine.db, shard=mine.shard,
                    huge=True, keys=1, spool=mine.spool,
                )  # fmt: skip
                session.add(chunk)
            chunk.path, chunk.bytes, chunk.state, chunk.owner = path, size, ChunkState.READY, None
            chunk.keys_done, chunk.dispatched_at, chunk.next_at = 0, None, None

    def _fenced(self) -> Fenced:
        return Fenced(f"chunk {self.chunk.id} was taken away", hint="nothing to do: its new owner goes on")

    def done(self, keys: int, left_out: str = "") -> None:
        """The chunk is marked on the target; `keys` were written. Raises Fenced as `renew`.

        Args:
            left_out: what of them the target has no place for, in words, for an event.
        """
        self._update([], left_out, state=ChunkState.DONE, keys_done=keys, owner=None, next_at=None)

    def _update(self, asked: Sequence[ColumnElement[Any]], left_out: str = "", **values: Any) -> Sequence[Any]:
        """Write these columns; what is `asked` besides, as it is then."""
        with self._db.write() as session:
            task = session.get_one(Task, self.task.id, with_for_update=True)
            found = session.execute(
                update(Chunk)
                .where(
                    Chunk.id == self.chunk.id,
                    Chunk.epoch == self.chunk.epoch,
                    Chunk.owner == self.owner,
                    Chunk.state == ChunkState.RUNNING,
                )
                .values(**values)
                .returning(Chunk.id, *asked)
                .execution_options(synchronize_session=False)
            ).one_or_none()
            if found is None or task.state not in RUNNING:
                raise self._fenced()
            if values.get("state") == ChunkState.DONE:
                # The target took a whole chunk: whatever ailed it has passed.
                windows.close(session, task, or_(RetryWindow.side == Side.TARGET, RetryWindow.origin == windows.LOAD))
            self.limits = self._share(session, task)
            if left_out:
                lifecycle.note(session, task.id, "left-out", f"chunk {self.chunk.seq + 1}: {left_out}")
            return found[1:]

    def _share(self, session: Session, task: Task) -> Limits:
        """All that load for the task now have the same part of what it may."""
        throttle = ThrottleSpec.model_validate(task.spec.get("throttle", {}))
        if throttle.full == FullThrottle():
            self.asking = Limits()
            return Limits()
        loading = select(func.count(Chunk.id)).where(Chunk.task_id == task.id, Chunk.state == ChunkState.RUNNING)
        if throttle.full.source_qps > 0 and self.chunk.is_range:
            self.asking = reading_limits(throttle, session.scalar(loading.where(Chunk.path.endswith(RANGE))) or 1)
        else:
            self.asking = Limits()
        return load_limits(throttle, session.scalar(loading) or 1)

    def _count(self) -> ColumnElement[int | None]:
        """How many chunks there are; NULL while they still come."""
        other = aliased(Chunk)
        # Two queries of one table each: then both are a look at an index, however many chunks there are.
        whole = select(Node.snapshot_done).where(Node.id == self.chunk.node_id).scalar_subquery()
        last = select(func.max(other.seq)).where(
            other.node_id == self.chunk.node_id, other.gen == self.chunk.gen, other.seq < HUGE_FROM
        )
        return case((whole, last.scalar_subquery() + 1), else_=None)
