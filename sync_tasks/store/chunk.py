"""A claimed chunk: every write is fenced by the chunk's epoch (`workers.ports.ChunkPort`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, case, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from sync_tasks import lifecycle
from sync_tasks.errors import Fenced, Side
from sync_tasks.models import Chunk, Node, RetryWindow, Task
from sync_tasks.states import RUNNING, ChunkState
from sync_tasks.store import windows
from sync_tasks.store.database import Database
from sync_tasks.throttle import FullThrottle, Limits, ThrottleSpec, load_limits
from sync_tasks.views import ChunkView, TaskView


class ChunkHandle:
    """One load worker's hold on one chunk."""

    def __init__(self, database: Database, task: TaskView, chunk: ChunkView, node_number: int, owner: str) -> None:
        self.task = task
        self.chunk = chunk
        self.node_number = node_number
        self.owner = owner
        self.say: Callable[[str], None] = lambda _: None  # shows a line to people who watch the load
        self.limits = Limits()  # how fast it may write, as of the last beat
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
                raise Fenced(f"chunk {self.chunk.id} was taken away", hint="nothing to do: its new owner goes on")
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
            return Limits()
        loading = select(func.count(Chunk.id)).where(Chunk.task_id == task.id, Chunk.state == ChunkState.RUNNING)
        return load_limits(throttle, session.scalar(loading) or 1)

    def _count(self) -> ColumnElement[int | None]:
        """How many chunks there are; NULL while they still come."""
        other = aliased(Chunk)
        # Two queries of one table each: then both are a look at an index, however many chunks there are.
        whole = select(Node.snapshot_done).where(Node.id == self.chunk.node_id).scalar_subquery()
        last = select(func.max(other.seq)).where(other.node_id == self.chunk.node_id, other.gen == self.chunk.gen)
        return case((whole, last.scalar_subquery() + 1), else_=None)
