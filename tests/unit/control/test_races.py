"""Whatever may happen to a task happens at once: no update is lost, and nobody waits in a circle."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random

from scheduler import dispatch, leases, windows
from sync_tasks.errors import ConnectionLost, ControlError, Fenced, Side, TargetBusy
from sync_tasks.models import Chunk, Lease, RetryWindow
from sync_tasks.spec import TaskSpec
from sync_tasks.states import ChunkState, TaskState
from sync_tasks.store import Store, locks, outgoing
from sync_tasks.store.windows import close
from tests.unit.control.conftest import SOURCE, TARGET, Wall, chunk, started
from tests.unit.control.processes import PROCESSES, in_processes

ROUNDS = 12
BUSY = TargetBusy("OOM")
CUT = ConnectionLost("cut", side=Side.TARGET)


def test_of_failures_and_healings_that_race_each_counts_once(store: Store, task_id: int, wall: Wall) -> None:
    """Loaders fail over two kinds of trouble while others succeed: that closes the windows again and again."""
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    ids = [handle.add_chunk(**chunk(seq)) for seq in range(PROCESSES * 4)]  # type: ignore[arg-type]

    def load(number: int) -> int:
        failed = 0
        for turn, chunk_id in enumerate(ids[number::PROCESSES]):
            for error in (BUSY, CUT, BUSY)[: turn % 4]:
                taken = store.claim_chunk(chunk_id, f"h:{number}:1:x")
                assert taken is not None
                store.chunk_failed(chunk_id, taken.chunk.epoch, error)
                failed += 1
                wall.now += 60  # of this process alone: no pause lasts so long
            taken = store.claim_chunk(chunk_id, f"h:{number}:1:x")
            assert taken is not None
            taken.done(10)
        return failed

    failures = sum(in_processes(load))
    events = Counter(event.kind for event in store.events(task_id))
    counted = [int(found[1]) for event in store.events(task_id) if (found := re.search(r"after (\d+) f", event.text))]
    still = store.retries(task_id)
    assert sum(counted) + sum(window.attempts for window in still) == failures > 0
    assert events["healed"] + len(still) == events["retry"]
    assert (store.task(task_id).state is TaskState.RETRYING) == bool(still)
    assert handle.load_state(1).done == len(ids)


def test_a_window_that_heals_as_its_deadline_passes_ends_no_task(store: Store, task_id: int, wall: Wall) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.failing(BUSY)
    (window,) = store.retries(task_id)
    failed: list[str] = []
    mark, left = (1, window.opened_at), window.seconds_left

    def scheduler() -> None:
        with store.database.write() as session:
            failed.extend(windows.advance(session, {mark}, left, wall.now + left))

    thread = threading.Thread(target=scheduler)
    with store.database.write() as session:
        close(session, locks.task(session, task_id), RetryWindow.side == Side.TARGET)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "it waits for us"
    thread.join(10)
    assert failed == []
    assert store.task(task_id).state is TaskState.INITIALIZING


class Storm:
    """Everything that can be done to two tasks of one store, by all parties."""

    def __init__(self, store: Store, tasks: list[int], number: int) -> None:
        self.store = store
        self.tasks = tasks
        self.number = number
        self.rng = Random(number)
        self.owner = f"h:{number}:1:x"
        self.met: Counter[str] = Counter()
        self.nodes = [node.id for task_id in tasks for node in store.nodes(task_id)]

    def blow(self) -> Counter[str]:
        parts: list[Callable[[], None]] = [
            self.stream, self.load, self.operate, self.reap, self.send, self.release, self.deadlines,
        ]  # fmt: skip
        for _ in range(ROUNDS):
            part = parts[self.number] if self.number < len(parts) else self.rng.choice(parts)
            self.met[part.__name__] += 1
            try:
                part()
            except Fenced:
                self.met["fenced"] += 1
            except ControlError as error:
                if error.code != "transition":
                    raise
        return self.met

    def stream(self) -> None:
        handle = self.store.claim_node(self.rng.choice(self.nodes), self.owner)
        if handle is None:
            return
        gen = handle.begin_snapshot("r", 1, 0, None, None)
        ids = [handle.add_chunk(**chunk(seq, gen)) for seq in range(4)]  # type: ignore[arg-type]
        handle.raise_epoch(handle.epoch + 3)
        handle.failing(CUT)
        handle.progress({"in_sync": True})
        handle.healed(Side.TARGET)
        handle.begin_stream()
        handle.void_chunks(gen)
        handle.reload(ids)
        handle.renew()
        self.store.release_node(handle.node_id, handle.epoch)

    def load(self) -> None:
        with self.store.database.read() as session:
            ready = [row.id for row in session.query(Chunk).filter(Chunk.state == ChunkState.READY).limit(5)]
        for chunk_id in ready:
            taken = self.store.claim_chunk(chunk_id, self.owner)
            if taken is not None:
                taken.renew(1)
                if self.rng.random() < 0.5:
                    self.store.chunk_failed(chunk_id, taken.chunk.epoch, BUSY)
                else:
                    taken.done(10)

    def operate(self) -> None:
        task_id = self.rng.choice(self.tasks)
        self.store.stop(task_id)
        self.store.suspend(task_id)
        self.store.start(task_id)
        self.store.fail(task_id, BUSY)
        self.store.start(task_id)
        self.store.update_spec(task_id, TaskSpec(name="n"))

    def reap(self) -> None:
        with self.store.database.read() as session:
            held = {row.name: (row.epoch, row.beat) for row in session.query(Lease).filter(Lease.owner.is_not(None))}
            running = {row.id: (row.epoch, row.beat) for row in session.query(Chunk).filter_by(state="running")}
        with self.store.database.write() as session:
            leases.free_leases(session, held)
        with self.store.database.write() as session:
            leases.free_chunks(session, running, time.time(), self.rng)

    def send(self) -> None:
        with self.store.database.rows() as rows:
            seen = dispatch.look(rows, time.time())
        with self.store.database.read() as session:
            due = dispatch.due(session, seen)
            messages = [*due.messages, *due.stale, *outgoing.follows(session, due.nodes)]
        with self.store.database.write() as session:
            dispatch.mark(session, messages[::-1], None)

    def release(self) -> None:
        self.store.release_owner(f"h:{self.rng.randrange(PROCESSES)}")

    def deadlines(self) -> None:
        with self.store.database.read() as session:
            known = windows.look(session)
        with self.store.database.write() as session:
            windows.advance(session, known, 0.25, 0.0)


def test_nobody_waits_in_a_circle(store: Store) -> None:
    tasks = [started(store, store.create_task(TaskSpec(), SOURCE, TARGET).id) for _ in range(2)]
    storms = [Storm(store, tasks, number) for number in range(PROCESSES)]
    met: Counter[str] = sum(in_processes(lambda number: storms[number].blow()), Counter())
    assert {"stream", "load", "operate", "reap", "send", "release", "deadlines"} <= set(met), met
    for task_id in tasks:
        assert (store.task(task_id).state is TaskState.RETRYING) == bool(store.retries(task_id))
        (node,) = store.nodes(task_id)
        with store.database.read() as session:
            older = session.query(Chunk).filter(Chunk.node_id == node.id, Chunk.gen < node.gen)
            assert {row.state for row in older} <= {ChunkState.VOID}


def test_one_window_whoever_opens_it(store: Store, task_id: int) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    in_processes(lambda _: [handle.failing(CUT) for _ in range(5)])
    (window,) = store.retries(task_id)
    assert window.attempts == PROCESSES * 5
    assert store.task(task_id).state is TaskState.RETRYING
