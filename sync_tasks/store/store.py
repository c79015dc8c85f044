"""The store: what the rest of Keyferry may ask of the database and do to it."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from sync_tasks import lifecycle, names
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, KeyferryError, Retry, Side, UsageError
from sync_tasks.models import Chunk, Event, Lease, Node, RetryWindow, Task
from sync_tasks.retry_policy import LONGEST_S, pause
from sync_tasks.secrets import SecretBox
from sync_tasks.settings import Settings
from sync_tasks.spec import TaskSpec, mapping
from sync_tasks.states import RUNNING, ChunkState, TaskState
from sync_tasks.store import leases, orphans, rows, windows
from sync_tasks.store.chunk import ChunkHandle
from sync_tasks.store.database import Database
from sync_tasks.store.events import EventView, event_view
from sync_tasks.store.migrate import bring
from sync_tasks.store.stream import StreamHandle
from sync_tasks.views import NodeView, RetryView, TaskView

log = logging.getLogger(__name__)

Sender = Callable[[str, int], None]
"""Publishes a message: task name of `names`, id."""


class Store:
    """One database of tasks. Opens it at first use, in each process anew.

    Args:
        url: SQLAlchemy URL of SQLite or PostgreSQL.
        box: seals the endpoints.
        sender: publishes messages after a commit; None leaves that to the scheduler.
        clock: wall time in Unix seconds; only pauses and deadlines use it.
        rng: jitter of pauses.

    Raises:
        ControlError: each method, if the database cannot be used.
    """

    def __init__(
        self,
        url: str,
        box: SecretBox,
        sender: Sender | None = None,
        *,
        clock: Callable[[], float] = time.time,
        rng: Random | None = None,
    ) -> None:
        self.database = Database(url)
        self._box = box
        self._sender = sender
        self._clock = clock
        self._rng = rng or Random()  # noqa: S311 - jitter, no secret

    @classmethod
    def of(cls, settings: Settings, sender: Sender | None = None) -> Store:
        """The store of an installation. Without a secret key, sealed addresses die with the process."""
        return cls(settings.database(), SecretBox(settings.key()), sender)

    def __repr__(self) -> str:
        return "Store()"

    def migrate(self) -> None:
        """Bring the database to the tables of this version; see `store.migrate`."""
        bring(self.database)

    def dispose(self) -> None:
        """Close all connections; the next call opens new ones."""
        self.database.dispose()

    # Tasks

    def create_task(self, spec: TaskSpec, source: Endpoint, target: Endpoint) -> TaskView:
        """A new task with one node, not started. Raises UsageError if URLs contradict `databases`."""
        mapping(spec.databases, source.db, target.db)
        with self.database.write() as session:
            task = Task(
                uid=secrets.token_hex(8),
                name=spec.name or f"{source.address()} to {target.address()}",
                state=TaskState.NOT_STARTED,
                spec=spec.model_dump(mode="json"),
            )
            self._seal(task, source, target)
            session.add(task)
            session.flush()
            node = Node(task_id=task.id, number=0)
            session.add(node)
            session.flush()
            session.add(Lease(name=names.node_lease(node.id)))
            lifecycle.note(session, task.id, "created", f"{task.source_safe} to {task.target_safe}")
            return rows.task_view(task)

    def tasks(self) -> list[TaskView]:
        """All tasks, oldest first."""
        with self.database.read() as session:
            return [rows.task_view(row) for row in session.scalars(select(Task).order_by(Task.id))]

    def task(self, task_id: int) -> TaskView:
        """One task. Raises ControlError if there is none."""
        with self.database.read() as session:
            return rows.task_view(_task(session, task_id))

    def only_task(self) -> TaskView | None:
        """The task of a foreground state directory, if it has one. Raises ControlError if it has several."""
        found = self.tasks()
        if len(found) > 1:
            raise ControlError(
                f"the state directory holds {len(found)} tasks",
                hint="`keyferry sync` needs a directory of its own: give another --state",
                code="many-tasks",
            )
        return found[0] if found else None

    def set_endpoints(self, task_id: int, source: Endpoint, target: Endpoint) -> None:
        """New addresses or credentials of the same servers, sealed anew."""
        with self._task(task_id) as (session, task):
            old = rows.task_view(task).databases
            new = mapping(rows.spec_of(task).databases, source.db, target.db)
            self._same_databases(session, task, old, new)
            self._seal(task, source, target)

    def endpoints(self, task_id: int) -> tuple[Endpoint, Endpoint]:
        """Source and target, with credentials. Raises ControlError if they were sealed with another key."""
        with self.database.read() as session:
            task = _task(session, task_id)
            source, target = task.source, task.target
        return (
            Endpoint.parse(self._box.open(source), Side.SOURCE),
            Endpoint.parse(self._box.open(target), Side.TARGET),
        )

    def update_spec(self, task_id: int, spec: TaskSpec) -> None:
        """New settings. Raises UsageError if databases change once data has been copied."""
        with self._task(task_id) as (session, task):
            old = rows.task_view(task).databases
            new = mapping(spec.databases, task.source_db, task.target_db)
            self._same_databases(session, task, old, new)
            task.spec = spec.model_dump(mode="json")
            if spec.name:
                task.name = spec.name

    def transition(self, task_id: int, state: TaskState, reason: str, error: KeyferryError | None = None) -> None:
        """Change the task's state; nothing happens if it is there. Raises ControlError if it must not."""
        with self._task(task_id) as (session, task):
            lifecycle.move(session, task, state, reason, error)

    def fail(self, task_id: int, error: KeyferryError) -> None:
        """End the task with an error, once."""
        with self._task(task_id) as (session, task):
            lifecycle.fail(session, task, error)

    def start(self, task_id: int) -> None:
        """An operator's start: all streams wanted and fresh, every lease and chunk free to be taken."""
        with self._task(task_id) as (session, task):
            if task.state in (TaskState.FINISHED, TaskState.RELEASED):
                raise ControlError(f"the task is {task.state}", hint="make a new one", code="transition")
            if task.state in (TaskState.PRECHECK_PASSED, TaskState.SUSPENDED, TaskState.FAILED):
                lifecycle.move(session, task, lifecycle.phase(session, task.id), "started")
            session.execute(
                update(Node)
                .where(Node.task_id == task.id)
                # What the last run found out about the delay is of the past.
                .values(
                    wanted=True,
                    fresh=True,
                    dispatched_at=None,
                    next_at=None,
                    in_sync=False,
                    settled=False,
                    delay_ms=None,
                )
            )
            ids = session.scalars(select(Node.id).where(Node.task_id == task.id)).all()
            held = [names.node_lease(node_id) for node_id in ids]
            session.execute(update(Lease).where(Lease.name.in_(held)).values(owner=None))
            session.execute(
                update(Chunk)
                .where(Chunk.task_id == task.id, Chunk.state.in_([ChunkState.READY, ChunkState.RUNNING]))
                .values(state=ChunkState.READY, owner=None, dispatched_at=None, next_at=None, keys_done=0)
            )

    def stop(self, task_id: int) -> None:
        """Ask the streams to stop at a checkpoint."""
        with self.database.write() as session:
            session.execute(update(Node).where(Node.task_id == task_id).values(wanted=False))

    def nodes(self, task_id: int) -> list[NodeView]:
        """The task's nodes with their progress."""
        with self.database.read() as session:
            return rows.nodes(session, select(Node.id).where(Node.task_id == task_id))

    def retries(self, task_id: int) -> list[RetryView]:
        """Open retry windows, the one with the least time left first."""
        query = select(RetryWindow).where(RetryWindow.task_id == task_id)
        with self.database.read() as session:
            found = windows.view(session.scalars(query).all(), self._clock())
        return sorted(found, key=lambda window: window.seconds_left)

    def events(self, task_id: int, after_id: int = 0) -> list[EventView]:
        """Events younger than `after_id`, oldest first."""
        query = select(Event).where(Event.task_id == task_id, Event.id > after_id).order_by(Event.id)
        with self.database.read() as session:
            return [event_view(row) for row in session.scalars(query)]

    # Jobs

    def claim_node(self, node_id: int, owner: str) -> StreamHandle | None:
        """The stream job of a node, or None if it is another's or not wanted."""
        with self.database.write() as session:
            node = session.get(Node, node_id)
            if node is None or not node.wanted:
                return None
            epoch = leases.claim(session, names.node_lease(node_id), owner)
            if epoch is None:
                return None
            node.in_sync = node.settled = False
            node.delay_ms = None
            task = rows.task_view(_task(session, node.task_id))
        return StreamHandle(self.database, task, node_id, owner, epoch, self._publish_chunks, self._clock, self._rng)

    def release_node(self, node_id: int, epoch: int) -> None:
        """Give a stream job back, if it is still held under that epoch; a wanted one is sent again."""
        with self.database.write() as session:
            if leases.release(session, names.node_lease(node_id), epoch):
                session.execute(
                    update(Node).where(Node.id == node_id).values(dispatched_at=None, in_sync=False, delay_ms=None)
                )

    def claim_chunk(self, chunk_id: int, owner: str) -> ChunkHandle | None:
        """A chunk to load, or None: taken, done, void, not due yet, or its task does not run."""
        with self.database.write() as session:
            chunk = session.get(Chunk, chunk_id, with_for_update=True)
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
            # The task's lock first, as everywhere: PostgreSQL would find a deadlock otherwise.
            task = session.get_one(Task, chunk.task_id, with_for_update=True)
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
            if task.state not in RUNNING:
                return
            fatal = error.retry is Retry.FATAL
            if fatal or windows.failed(session, task, error, windows.LOAD, now, self._rng)[1]:
                lifecycle.fail(session, task, error)

    def release_owner(self, owner_prefix: str) -> None:
        """Free what owners so named hold: "host:pid" of a process known to be dead, and its children."""
        prefix = owner_prefix.rstrip(":")

        def is_theirs(owner: InstrumentedAttribute[str | None]) -> ColumnElement[bool]:
            return or_(owner == prefix, owner.startswith(prefix + ":", autoescape=True))

        with self.database.write() as session:
            freed = session.scalars(
                update(Lease).where(is_theirs(Lease.owner)).values(owner=None).returning(Lease.name)
            ).all()
            ids = session.scalars(select(Node.id)).all() if freed else []
            session.execute(
                update(Node)
                .where(Node.id.in_([node_id for node_id in ids if names.node_lease(node_id) in freed]))
                .values(dispatched_at=None, next_at=None, in_sync=False, delay_ms=None)
            )
            mine = select(Chunk).where(Chunk.state == ChunkState.RUNNING, is_theirs(Chunk.owner))
            orphans.free(session, session.scalars(mine.with_for_update()).all(), self._clock(), self._rng)

    def owners(self, prefix: str) -> list[str]:
        """Owners of leases and running chunks whose name begins so."""
        with self.database.read() as session:
            leases_ = session.scalars(select(Lease.owner).where(Lease.owner.startswith(prefix, autoescape=True)))
            chunks = session.scalars(
                select(Chunk.owner).where(
                    Chunk.state == ChunkState.RUNNING, Chunk.owner.startswith(prefix, autoescape=True)
                )
            )
            return [owner for owner in [*leases_, *chunks] if owner is not None]

    # Inside

    def _publish_chunks(self, chunk_ids: list[int]) -> None:
        """Send LOAD after a commit; what cannot be sent is left to the scheduler."""
        failed = []
        for chunk_id in chunk_ids:
            try:
                if self._sender is None:
                    raise ConnectionError("no sender")
                self._sender(names.LOAD, chunk_id)
            except Exception as error:  # noqa: BLE001 - any transport, any failure of it
                if self._sender is not None:
                    log.warning("chunk %d could not be sent: %s", chunk_id, type(error).__name__)
                failed.append(chunk_id)
        if failed:
            with self.database.write() as session:
                session.execute(update(Chunk).where(Chunk.id.in_(failed)).values(dispatched_at=None))

    def _seal(self, task: Task, source: Endpoint, target: Endpoint) -> None:
        task.source = self._box.seal(source.url())
        task.target = self._box.seal(target.url())
        task.source_safe = source.safe()
        task.target_safe = target.safe()
        task.source_db = source.db
        task.target_db = target.db

    def _same_databases(
        self, session: Session, task: Task, old: dict[int, int] | None, new: dict[int, int] | None
    ) -> None:
        begun = session.scalar(select(Node.id).where(Node.task_id == task.id, Node.gen > 0).limit(1))
        if old != new and begun is not None:
            raise UsageError(
                "the databases to copy cannot change once copying has begun",
                hint="use the same databases as before, or another --state directory",
                code="databases",
            )

    @contextmanager
    def _task(self, task_id: int) -> Iterator[tuple[Session, Task]]:
        with self.database.write() as session:
            yield session, _task(session, task_id, lock=True)


def due(next_at: float | None, now: float) -> bool:
    """Whether a pause is over. One longer than any we make shows that the wall clock was set back."""
    return next_at is None or next_at <= now or next_at > now + 2 * LONGEST_S


def _task(session: Session, task_id: int, lock: bool = False) -> Task:
    task = session.get(Task, task_id, with_for_update=True if lock else None)
    if task is None:
        raise ControlError(f"there is no task {task_id}", hint="give the id of a task that exists", code="no-task")
    return task
