"""The same on a database: the store, as jobs and operators use it, and two schedulers with leases and messages."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from sqlalchemy import func, select

from scheduler.leader import Leader
from scheduler.tick import Ticker
from sync_tasks import names
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError, Retry, Side
from sync_tasks.models import Event as EventRow
from sync_tasks.models import Lease, RetryWindow, Task
from sync_tasks.retry_policy import LONGEST_S
from sync_tasks.secrets import SecretBox, new_key
from sync_tasks.spec import RetrySpec, TaskSpec
from sync_tasks.states import RUNNING, TaskState
from sync_tasks.store import Store, windows
from sync_tasks.store.stream import StreamHandle
from tests.unit.control.conftest import Outbox, started
from tests.unit.control.databases import Sqlite
from tests.unit.scheduler.simulation.history import SERVERS, STALL_S, TASKS, Key

OWNER = "h:1:2:x"
WAKES_S = 1.0
"""Of a longer sleep a scheduler lives through no more (`scheduler.clock`)."""
EARLY_S = 0.01


@dataclass
class Pause:
    """A job that failed, and is not to be sent before."""

    until: float  # true time
    leader: object  # who led when it failed


class Process:
    """A scheduler with a lived time of its own."""

    def __init__(self, world: SqlWorld, host: str) -> None:
        self.now = 100.0
        self.leader = Leader(world.store.database, host)
        self.ticker = Ticker(world.store.database, world.outbox, self.leader, lambda: world.wall, Random(1))

    def tick(self) -> None:
        self.ticker.tick(self.now)


class SqlWorld:
    """See `history.World`; besides, no job is sent before its pause is over.

    Args:
        rows: a database with all tables and no rows.
    """

    def __init__(self, rows: Sqlite) -> None:
        self.wall = 1.8e9
        self.true = 0.0
        self.outbox = Outbox()
        self.store = Store(rows.url, SecretBox(KEY), self.outbox.send, clock=self._clock, rng=Random(1))
        self.store.database = rows.database
        self._born = 0
        self._later = 0.0
        self._processes = [self._process(), self._process()]
        self._ids = [self._task(number) for number in TASKS]
        self._nodes = {task: self.store.nodes(task_id)[0].id for task, task_id in enumerate(self._ids)}
        self._pauses: dict[int, Pause] = {}
        self._look()

    def fail(self, task: int, kind: Retry, side: Side) -> float:
        error = KeyferryError("it broke", side=side, retry=kind, code="x")
        handle = self._claim(task)
        if handle is None:  # it rests: a job of before comes late
            with self.store._task(self._ids[task]) as (session, row):
                return windows.failed(session, row, error, windows.STREAM, self.wall, Random(1))
        pause = handle.failing(error)
        self._pauses[task] = Pause(self.true + pause, self.leading())
        self.store.release_node(handle.node_id, handle.epoch)
        return pause

    def heal(self, task: int, side: Side) -> None:
        handle = self._claim(task)
        assert handle is not None
        handle.healed(side)
        self.store.release_node(handle.node_id, handle.epoch)
        if not any(key[0] == task for key in self.open()):
            self._pauses.pop(task, None)

    def suspend(self, task: int) -> None:
        self.store.halt(self._ids[task])
        self._pauses.pop(task, None)

    def resume(self, task: int) -> None:
        if self.store.task(self._ids[task]).state not in RUNNING:
            self._pauses.pop(task, None)
        self.store.resume(self._ids[task])

    def modify(self, task: int, connection_min: int, other_min: int) -> None:
        spec = TaskSpec(retry=RetrySpec(connection_min=connection_min, other_min=other_min))
        self.store.modify(self._ids[task], spec)

    def hand_over(self) -> None:
        leader = self._leader()
        if leader is not None:
            leader.leader.resign()
            self._other(leader).tick()
            self._judge_messages()

    def crash(self) -> None:
        leader = self._leader()
        if leader is not None:
            self._processes[self._processes.index(leader)] = self._process()

    def stall(self) -> None:
        leader = self._leader()
        if leader is None:
            return
        other = self._other(leader)
        for _ in range(int(STALL_S)):
            other.tick()
            self._pass(1.0)
            other.now += 1.0
        other.tick()
        self._judge_messages()
        leader.now += WAKES_S

    def restart(self) -> None:
        self._processes = [self._process(), self._process()]

    def advance(self, seconds: float) -> None:
        self._pass(seconds)
        for process in self._processes:
            process.now += seconds

    def tick(self) -> set[int]:
        before = self._running()
        self._look()
        return before - self._running()

    def leading(self) -> object:
        leader = self._leader()
        return None if leader is None else leader.leader.epoch

    def open(self) -> set[Key]:
        with self.store.database.read() as session:
            found = session.execute(select(RetryWindow.task_id, RetryWindow.kind, RetryWindow.side))
            return {(self._ids.index(task_id), kind, side) for task_id, kind, side in found}

    def failures(self, task: int) -> int:
        query = select(func.count()).where(EventRow.task_id == self._ids[task], EventRow.kind == TaskState.FAILED)
        with self.store.database.read() as session:
            return session.scalar(query) or 0

    # -- inside

    def _claim(self, task: int) -> StreamHandle | None:
        """As if it had gone on from before its pause, as most jobs do."""
        self._later = LONGEST_S
        try:
            return self.store.claim_node(self._nodes[task], OWNER)
        finally:
            self._later = 0.0

    def _clock(self) -> float:
        return self.wall + self._later

    def _pass(self, seconds: float) -> None:
        self.true += seconds
        self.wall += seconds

    def _look(self) -> None:
        for process in self._processes:
            process.tick()
        self._judge_messages()

    def _judge_messages(self) -> None:
        """What was sent at this moment was due: unless its clock jumped while nobody led who would know."""
        for message in self.outbox.messages:
            task = next(task for task, node_id in self._nodes.items() if node_id == message.id)
            pause = self._pauses.get(task)
            if message.name == names.FOLLOW and pause is not None and pause.leader in (None, self.leading()):
                assert self.true >= pause.until - EARLY_S, f"task {task} is sent {pause.until - self.true:.1f} s early"
        self.outbox.messages.clear()
        self.outbox.sent.clear()

    def _process(self) -> Process:
        self._born += 1
        return Process(self, f"host{self._born}")

    def _other(self, process: Process) -> Process:
        return next(other for other in self._processes if other is not process)

    def _leader(self) -> Process | None:
        with self.store.database.read() as session:
            lease = session.get(Lease, names.SCHEDULER_LEASE)
        owner = lease.owner if lease is not None else None
        return next((process for process in self._processes if process.leader.owner == owner), None)

    def _running(self) -> set[int]:
        with self.store.database.read() as session:
            found = session.scalars(select(Task.id).where(Task.state.in_(RUNNING))).all()
        return {self._ids.index(task_id) for task_id in found}

    def _task(self, number: int) -> int:
        source, target = SERVERS[number]
        ends = (
            Endpoint.parse(f"redis://{source}", Side.SOURCE),
            Endpoint.parse(f"redis://{target}", Side.TARGET),
        )
        spec = TaskSpec(name=str(number), retry=RetrySpec(connection_min=720, other_min=9))
        task_id = started(self.store, self.store.create_task(spec, *ends).id)
        handle = self.store.claim_node(self.store.nodes(task_id)[0].id, OWNER)
        assert handle is not None
        handle.begin_stream()
        self.store.release_node(handle.node_id, handle.epoch)
        return task_id


KEY = new_key()
