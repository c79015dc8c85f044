"""A claimed stream job: every write is fenced by the lease's epoch (`workers.ports.StreamPort`)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session, aliased

from sync_tasks import lifecycle, names
from sync_tasks.errors import ControlError, Fenced, KeyferryError, Retry, Side, TaskRests, is_away
from sync_tasks.models import Chunk, Node, RetryWindow, Task
from sync_tasks.observe import bound
from sync_tasks.spec import TaskSpec
from sync_tasks.states import RUNNING, ChunkState, Stage, TaskState
from sync_tasks.store import grants, leases, receiving, rows, verifications, windows
from sync_tasks.store.database import Database
from sync_tasks.store.lanes import LanesHandle
from sync_tasks.store.query import Query
from sync_tasks.store.receiving import Patience
from sync_tasks.store.shards import Shards, carried
from sync_tasks.store.touched import TouchedHandle
from sync_tasks.throttle import Limits, stream_limits
from sync_tasks.views import STORED, ChunkView, LoadState, NodeView, Orders, TaskView

PROGRESS = frozenset(
    {
        "received_offset", "applied_offset", "source_offset", "delay_ms", "in_sync", "settled", "held", "windows",
        "keys_total", "bytes_total", "replid", "stream_db", "unextended", "changed_offset", "changed_by", "way_back",
    }
)  # fmt: skip
"""Columns that `progress` may set; keys and bytes done are counted from the chunks."""

AWAY_S = 1.0
"""A pause that could not be recorded, as the database is away."""
HEARD = ("throttle", "instance_class", "retry")
"""Settings that hold for a job at its next beat; the others interrupt it."""

_others = aliased(Node)
ORDERS = Query(
    select(
        Node.wanted, Node.turn, Task.finishing, Task.cutover, Node.receive_bytes, Node.resting, Task.spec, Node.shard,
        select(func.count(_others.id)).where(_others.task_id == Task.id, _others.wanted).scalar_subquery(),
    )
    .join(Task, Task.id == Node.task_id)
    .where(Node.id == bindparam("node"))
)  # fmt: skip


@cache
def _setting(columns: frozenset[str]) -> Query:
    """Sets these of a node to `new_<name>`, if the lease is held."""
    given = {name: bindparam(f"new_{name}", type_=Node.__table__.c[name].type) for name in columns}
    return Query(update(Node).where(Node.id == bindparam("node"), leases.HELD).values(given).returning(Node.id))


class StreamHandle(LanesHandle, Shards, TouchedHandle):
    """One owner's hold on one node. Usable from several threads of a process.

    Args:
        database: where the lease is.
        task: as claimed.
        node_id: of the node.
        owner: of the lease.
        epoch: that the claim gave.
        publish: sends LOAD for chunk ids after a commit; never raises.
        clock: wall time in Unix seconds.
        rng: jitter of pauses.
        spool: id of the owner's spool; None: one that all workers share.
        moved: the last owner had another spool: what lies in this one is older than the stream.
        receives: its task is suspended: it is to do no more than receive.
    """

    def __init__(
        self,
        database: Database,
        task: TaskView,
        node_id: int,
        owner: str,
        epoch: int,
        publish: Callable[[list[int]], None],
        clock: Callable[[], float],
        rng: Random,
        spool: str | None = None,
        moved: bool = False,
        receives: bool = False,
    ) -> None:
        self.task, self.moved, self.node_id = task, moved, node_id
        self.owner, self.epoch = owner, epoch
        self._db = database
        self._publish = publish
        self._clock = clock
        self._rng = rng
        self._spool = spool
        self._lease = names.node_lease(node_id)
        self._lock = threading.RLock()
        self._patience = Patience(receives, rng)
        self._given: Any = None  # the settings as of the last beat
        self._clean: set[str] = set()  # sides without an open window, as far as this owner knows
        self._began = time.monotonic()
        self._quiet_from: dict[str, float] = {}  # when the last pause of a side was over

    def node(self) -> NodeView:
        """The node as it is now."""
        with self._db.read() as session:
            return rows.nodes(session, select(Node.id).where(Node.id == self.node_id))[0]

    def renew(self) -> Orders:
        """Beat of the lease; what is asked of the job. Raises Fenced when the lease is lost."""
        with self._lock, self._db.rows() as rows:
            leases.renew(rows, self._lease, self.owner, self.epoch)
            (row,) = rows(ORDERS, node=self.node_id)
        wanted, turn, finishing, stage, receive_bytes, resting, spec, shard, streams = row
        orders = Orders(
            bool(wanted), bool(turn), bool(finishing), stage == Stage.SETTLE, receive_bytes, bool(resting),
            self._limits(spec, streams), carried(shard),
        )  # fmt: skip
        self._patience.on = orders.receive_bytes is not None
        return orders

    def _limits(self, spec: Any, streams: int) -> Limits:
        """How fast it may go now. What is heard at once of the settings is the task's from here on."""
        with self._lock:
            if spec != self._given:
                given = json.loads(spec) if isinstance(spec, str) else spec  # PostgreSQL's driver has read it
                heard = TaskSpec.model_validate({name: given[name] for name in HEARD if name in given})
                now = {name: getattr(heard, name) for name in HEARD}
                self.task, self._given = replace(self.task, spec=self.task.spec.model_copy(update=now)), spec
            return stream_limits(self.task.spec.throttle, self.task.spec.instance_class, streams)

    def raise_epoch(self, epoch: int) -> None:
        """Take a higher epoch; clears `fresh`. A lower one changes nothing else."""
        with self._lock:
            with self._db.write() as session:
                leases.raise_epoch(session, self._lease, self.owner, self.epoch, epoch)
                session.execute(update(Node).where(Node.id == self.node_id).values(fresh=False))
            self.epoch = max(self.epoch, epoch)

    def begin_snapshot(
        self,
        replid: str,
        offset: int,
        db: int,
        keys_total: int | None,
        bytes_total: int | None,
        gen: int | None = None,
    ) -> int:
        """Void the chunks of earlier snapshots; the new gen: the one given, or the next. The task initializes."""
        with self._write() as (session, node, task):
            if task.state not in RUNNING and task.state != TaskState.PRECHECK_PASSED:
                raise TaskRests(f"the task is {task.state}", hint="start it again")
            now = rows.task_view(task)
            if (now.databases, now.spec.filter) != (self.task.databases, self.task.spec.filter):
                # Loaders go by what holds now.
                raise TaskRests("its settings have changed since", hint="another shift takes the snapshot")
            session.execute(update(Chunk).where(Chunk.node_id == node.id).values(state=ChunkState.VOID, owner=None))
            number = max(node.gen + 1, gen or 0)
            self._set(
                session, gen=number, replid=replid, snapshot_offset=offset, stream_db=db, snapshot_done=False,
                begun=False, in_sync=False, settled=False, keys_total=keys_total, bytes_total=bytes_total,
                received_offset=None, applied_offset=None, held=None, delay_ms=None, spoiled=None,
            )  # fmt: skip
            windows.close(session, task, RetryWindow.origin == windows.LOAD)
            if task.state != TaskState.RETRYING:
                lifecycle.move(session, task, TaskState.INITIALIZING, "the snapshot begins")
            lifecycle.note(
                session, task.id, "snapshot", f"node {node.number}: snapshot {number} from offset {offset}"
            )
            return number

    def add_chunk(self, *, gen: int, seq: int, db: int, shard: int, huge: bool, path: str, keys: int, size: int) -> int:
        """Record a complete chunk file as READY and send it; its id. A second call for it changes nothing."""
        with self._write() as (session, node, task):
            if gen != node.gen:
                raise Fenced(f"snapshot {gen} was replaced by {node.gen}", hint="nothing to do")
            found = session.scalar(select(Chunk.id).where(Chunk.node_id == node.id, Chunk.gen == gen, Chunk.seq == seq))
            if found is not None:
                return found
            chunk = Chunk(
                node_id=node.id, task_id=task.id, gen=gen, seq=seq, db=db, shard=shard, huge=huge, path=path, keys=keys,
                bytes=size, state=ChunkState.READY, dispatched_at=self._clock(),
                spool=None if path.startswith(STORED) else self._spool,
            )  # fmt: skip
            session.add(chunk)
            session.flush()
            chunk_id = chunk.id
        self._publish([chunk_id])
        return chunk_id

    def end_snapshot(self, gen: int, keys: int, size: int | None) -> None:
        """All chunks of `gen` are recorded; `keys` and `size` are the totals, as far as they are known."""
        with self._write() as (session, node, task):
            if gen != node.gen:
                raise Fenced(f"snapshot {gen} was replaced by {node.gen}", hint="nothing to do")
            self._set(session, snapshot_done=True, keys_total=keys, bytes_total=size)
            lifecycle.note(session, task.id, "received", f"node {node.number}: {keys} keys in snapshot {gen}")

    def load_state(self, gen: int) -> LoadState:
        """How far the load of a snapshot is."""
        with self._db.read() as session:
            return rows.load_state(session, self.node_id, gen)

    def chunks(self, gen: int, *, every: bool = False) -> list[ChunkView]:
        """The chunks of a snapshot, in order."""
        query = select(Chunk).where(Chunk.node_id == self.node_id, Chunk.gen == gen).order_by(Chunk.seq)
        with self._db.read() as session:
            return [rows.chunk_view(row) for row in session.scalars(query)]

    def reload(self, chunk_ids: list[int]) -> None:
        """Chunks of the present snapshot that the target has lost: READY again and sent."""
        with self._write() as (session, node, task):
            found = session.scalars(
                select(Chunk).where(
                    Chunk.node_id == node.id,
                    Chunk.gen == node.gen,
                    Chunk.id.in_(chunk_ids),
                    Chunk.state.in_([ChunkState.DONE, ChunkState.VOID]),
                )
            ).all()
            for chunk in found:
                chunk.state = ChunkState.READY
                chunk.keys_done = 0
                chunk.next_at = None
                chunk.dispatched_at = self._clock()
            if found:
                lifecycle.note(session, task.id, "reload", f"{len(found)} chunks are loaded again")
            sent = [chunk.id for chunk in found]
        self._publish(sent)

    def void_chunks(self, gen: int) -> None:
        """Open chunks of snapshots up to `gen` will not be loaded any more: the target streams already."""
        with self._write() as (session, node, task):
            session.execute(
                update(Chunk)
                .where(
                    Chunk.node_id == node.id,
                    Chunk.gen <= gen,
                    Chunk.state.in_([ChunkState.READY, ChunkState.RUNNING]),
                )
                .values(state=ChunkState.VOID, owner=None)
            )
            windows.close(session, task, RetryWindow.origin == windows.LOAD)

    def begin_stream(self) -> None:
        """The first window was committed: `begun`; the task synchronizes once all its nodes do."""
        with self._write() as (session, node, task):
            node.begun = node.snapshot_done = True  # the latter may have been lost with the last commits
            node.spoiled = None  # whatever a loader has found, another one has loaded all
            session.flush()
            to = lifecycle.phase(session, task.id)
            if task.state == TaskState.INITIALIZING and to is TaskState.SYNCHRONIZING:
                lifecycle.move(session, task, to, "the snapshot is loaded, the stream begins")
            verifications.want(session, task)

    def took_up(self) -> None:
        """The job works by the task's present settings: a task that was being modified goes on."""
        with self._write() as (session, _node, task):
            if task.state == TaskState.MODIFYING:
                lifecycle.move(session, task, lifecycle.phase(session, task.id), "goes on with its new settings")
                if windows.is_open(session, task):
                    lifecycle.move(session, task, TaskState.RETRYING, "what failed before is still retried")

    def finished(self) -> None:
        """The target has everything and is closed to this stream; with the last one, the task is finished."""
        with self._write() as (session, node, task):
            node.finished, node.wanted = True, False
            session.flush()
            left = session.scalar(select(func.count()).where(Node.task_id == task.id, Node.finished.is_(False)))
            if not left:
                lifecycle.move(session, task, TaskState.FINISHED, "cut over: it never writes to the target again")
                grants.drop(session, task.id)

    def progress(self, values: Mapping[str, Any]) -> None:
        """Set columns of the node.

        Raises:
            KeyError: a name not in PROGRESS.
        """
        if unknown := set(values) - PROGRESS:
            raise KeyError(f"no progress of a node: {sorted(unknown)}")
        bound.note(offset=values.get("applied_offset"))
        given = {f"new_{name}": value for name, value in values.items()}
        with self._lock, self._db.rows() as rows:
            held = {"lease": self._lease, "of": self.owner, "under": self.epoch}
            if not rows(_setting(frozenset(values)), node=self.node_id, **held, **given):
                raise leases.lost(self._lease)

    def failing(self, error: KeyferryError) -> float:
        """Open or go on with the error's retry window; the pause in s. Raises `error` if it is fatal.

        Past the window the scheduler fails the task, and the job hears of it at its next beat. While a stream is only
        received there is no window, and nothing is fatal. While the database is away, nothing is counted: nobody could
        say that a window is past.
        """
        if error.retry is Retry.FATAL and not self._patience.on:
            raise error
        try:
            return self._failing(error)
        except ControlError as away:
            if not is_away(away):
                raise
            return AWAY_S

    def _failing(self, error: KeyferryError) -> float:
        with self._lock:  # another thread may just be closing the window, and take the side for clean then
            self._clean.discard(error.side)
            with self._write() as (session, node, task):
                now = self._clock()
                wait = self._failed(session, task, node, error, now)
                node.next_at = now + wait
                node.in_sync = False
            self._quiet_from[error.side] = time.monotonic() + wait
        return wait

    def _failed(self, session: Session, task: Task, node: Node, error: KeyferryError, now: float) -> float:
        if receiving.is_received(task, node):
            return self._patience.failed(session, task, error)
        if error.retry is Retry.FATAL:
            raise error  # it was resumed since the last beat
        return windows.failed(session, task, error, windows.STREAM, now, self._rng)

    def fail(self, error: KeyferryError) -> None:
        """End the task with an error, once; an owner that is none any more ends nothing.

        Of a suspended task only the receiving ends: whoever resumes it sees whether the error holds.
        """
        with self._write() as (session, node, task):
            if receiving.is_received(task, node):
                receiving.end(session, task, node, f"its stream is received no more: {error.line()}")
            else:
                lifecycle.fail(session, task, error)

    def rests(self) -> None:
        """The stream has ended at a checkpoint on the target, and is only received."""
        with self._write() as (_session, node, _task):
            node.resting = node.receive_bytes is not None

    def receive_no_more(self, why: str) -> None:
        """The limit is reached, or there is no room; nothing happens if the task was resumed meanwhile."""
        with self._write() as (session, node, task):
            if receiving.is_received(task, node):
                receiving.end(session, task, node, why)

    def reread(self) -> None:
        """The task's settings may have changed while it was suspended."""
        with self._lock, self._db.read() as session:
            self.task = rows.task_view(session.get_one(Task, self.task.id))

    def moved_in(self) -> None:
        """What lay in the owner's spool before is removed: from now on the log lies there."""
        with self._write() as (_session, node, _task):
            node.spool = self._spool

    def healed(self, side: str, quiet_s: float = 0.0) -> None:
        """Close the retry windows of a side. Asks the database only at the first call and after a failure.

        Args:
            side: of a `Side`.
            quiet_s: not before so many seconds without a failure of that side here, its pause not counted.
        """
        if side in self._clean:
            return
        if quiet_s and time.monotonic() < self._quiet_from.get(side, self._began) + quiet_s:
            return
        with self._lock:
            with self._write() as (session, node, task):
                mine = RetryWindow.side == side
                if side == Side.CONTROL:
                    mine &= RetryWindow.origin == windows.STREAM  # the load's trouble is over when a chunk is in
                windows.close(session, task, mine)
                self._patience.healed(session, task, side)
                if not windows.is_open(session, task):
                    node.next_at = None  # else the pause is another side's, and goes on
            self._clean.add(side)

    def event(self, kind: str, text: str) -> None:
        """Record what people should know."""
        with self._write() as (session, _node, task):
            lifecycle.note(session, task.id, kind, text)

    def _set(self, session: Session, **values: Any) -> None:
        """Columns of the node: all of them, changed or not, so that one statement is compiled for all cases."""
        session.execute(update(Node).where(Node.id == self.node_id).values(**values))

    @contextmanager
    def _write(self) -> Iterator[tuple[Session, Node, Task]]:
        """A transaction in which the lease is held; the node and task as they are in it."""
        with self._lock, self._db.write() as session:
            leases.guard(session, self._lease, self.owner, self.epoch)
            task = session.get_one(Task, self.task.id, with_for_update=True)
            yield session, session.get_one(Node, self.node_id, with_for_update=True), task
