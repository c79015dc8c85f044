"""The stream job's hold on its node."""

from __future__ import annotations

import inspect
import threading
from types import SimpleNamespace

import pytest
from sqlalchemy import event

from sync_tasks import names
from sync_tasks.errors import ConnectionLost, ControlError, Fenced, Retry, Side, SpoolFull
from sync_tasks.models import Chunk, Node
from sync_tasks.settings import Settings
from sync_tasks.spec import RetrySpec, TaskSpec
from sync_tasks.states import ChunkState, TaskState
from sync_tasks.store import Store, stream
from sync_tasks.store.chunk import ChunkHandle
from sync_tasks.store.stream import StreamHandle
from sync_tasks.throttle import FullThrottle, IncrementalThrottle, Limits, ThrottleSpec
from tests.unit.control.conftest import Outbox, Wall, chunk
from workers import tasks
from workers.ports import ChunkPort, StreamPort


@pytest.fixture
def handle(store: Store, task_id: int) -> StreamHandle:
    claimed = store.claim_node(1, "h:1:2:x")
    assert claimed is not None
    return claimed


def begin(handle: StreamHandle, chunks: int = 2) -> list[int]:
    gen = handle.begin_snapshot("replid", 100, 3, None, 5000)
    return [handle.add_chunk(**chunk(seq, gen)) for seq in range(chunks)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("port", "handle_type"), [(StreamPort, StreamHandle), (ChunkPort, ChunkHandle)])
def test_the_handles_are_what_the_data_plane_asks_for(port: type, handle_type: type) -> None:
    asked = {name: value for name, value in vars(port).items() if inspect.isfunction(value) and name[0] != "_"}
    assert asked
    for name, value in asked.items():
        mine = inspect.signature(getattr(handle_type, name))
        wanted = inspect.signature(value)
        assert list(mine.parameters) == list(wanted.parameters), name
        assert [p.kind for p in mine.parameters.values()] == [p.kind for p in wanted.parameters.values()], name


def test_only_one_owner(store: Store, handle: StreamHandle) -> None:
    assert store.claim_node(1, "h:9:9:y") is None
    store.release_node(1, handle.epoch)
    second = store.claim_node(1, "h:9:9:y")
    assert second is not None
    assert second.epoch == handle.epoch + 1
    store.release_node(1, handle.epoch)
    assert second.renew().wanted, "a late release of the first does not touch the second"


def test_what_is_not_wanted_cannot_be_claimed(store: Store, task_id: int, handle: StreamHandle) -> None:
    store.stop(task_id)
    assert not handle.renew().wanted
    store.release_node(1, handle.epoch)
    assert store.claim_node(1, "h:9:9:y") is None


WRITES = {
    "renew": lambda h: h.renew(),
    "raise_epoch": lambda h: h.raise_epoch(99),
    "begin_snapshot": lambda h: h.begin_snapshot("r", 1, 0, None, None),
    "add_chunk": lambda h: h.add_chunk(**chunk(7)),
    "end_snapshot": lambda h: h.end_snapshot(1, 1, 1),
    "reload": lambda h: h.reload([1]),
    "void_chunks": lambda h: h.void_chunks(1),
    "begin_stream": lambda h: h.begin_stream(),
    "took_up": lambda h: h.took_up(),
    "change_lanes": lambda h: h.change_lanes([], []),
    "lay_out": lambda h: h.lay_out([]),
    "reshard": lambda h: h.reshard([], ()),
    "others": lambda h: h.others(),
    "stand": lambda h: h.stand(7),
    "untaken": lambda h: h.untaken(),
    "holds": lambda h: h.holds(()),
    "settle_lanes": lambda h: h.settle_lanes([1]),
    "close_lanes": lambda h: h.close_lanes({}),
    "set_lanes": lambda h: h.set_lanes([]),
    "finished": lambda h: h.finished(),
    "rests": lambda h: h.rests(),
    "receive_no_more": lambda h: h.receive_no_more("enough"),
    "fail": lambda h: h.fail(ConnectionLost("gone", side=Side.SOURCE)),
    "moved_in": lambda h: h.moved_in(),
    "progress": lambda h: h.progress({"applied_offset": 1}),
    "failing": lambda h: h.failing(ConnectionLost("cut", side=Side.SOURCE)),
    "healed": lambda h: h.healed("source"),
    "event": lambda h: h.event("x", "y"),
    "found_before": lambda h: h.found_before(),
    "touched": lambda h: h.touched({"compared": 1}),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("way", ["silent", "taken", "raised"])
def test_every_write_is_fenced(store: Store, task_id: int, handle: StreamHandle, write: str, way: str) -> None:
    begin(handle)
    store.release_owner("h:1")
    if way != "silent":
        newer = store.claim_node(1, "h:1:2:x")
        assert newer is not None
        if way == "raised":
            newer.raise_epoch(50)

    def all_of_it() -> tuple[object, ...]:
        shown = store.nodes(task_id), store.events(task_id), store.retries(task_id), store.touched(task_id)
        return *shown, handle.chunks(1)

    before = all_of_it()
    with pytest.raises(Fenced):
        WRITES[write](handle)
    assert all_of_it() == before


def test_all_writes_of_the_port_are_in_the_table_above() -> None:
    reads = {"node", "load_state", "chunks", "reread"}
    assert {name for name in vars(StreamPort) if inspect.isfunction(vars(StreamPort)[name]) and name[0] != "_"} == {
        *WRITES,
        *reads,
    }


def test_an_operators_start_takes_a_higher_epoch(store: Store, handle: StreamHandle) -> None:
    assert handle.node().fresh
    handle.raise_epoch(41)
    assert (handle.epoch, handle.node().epoch, handle.node().fresh) == (41, 41, False)
    handle.raise_epoch(7)
    assert (handle.epoch, handle.node().epoch) == (41, 41)
    assert handle.renew().wanted


def test_epochs_of_many_operators_starts_fit(handle: StreamHandle) -> None:
    handle.raise_epoch(10_000 * 2**20)
    assert handle.node().epoch == 10_000 * 2**20
    assert handle.renew().wanted


def test_a_snapshot_is_recorded(store: Store, task_id: int, handle: StreamHandle, outbox: Outbox) -> None:
    ids = begin(handle)
    node = handle.node()
    assert (node.gen, node.replid, node.snapshot_offset, node.stream_db) == (1, "replid", 100, 3)
    assert (node.keys_total, node.bytes_total, node.keys_done, node.snapshot_done) == (None, 5000, 0, False)
    assert outbox.sent == [(names.LOAD, ids[0]), (names.LOAD, ids[1])]
    handle.end_snapshot(1, 20, 2000)
    node = handle.node()
    assert (node.keys_total, node.bytes_total, node.snapshot_done) == (20, 2000, True)
    assert [c.seq for c in handle.chunks(1)] == [0, 1]
    assert handle.load_state(1).chunks == 2


def test_a_chunk_added_twice_is_one_chunk(store: Store, handle: StreamHandle, outbox: Outbox) -> None:
    ids = begin(handle)
    taken = store.claim_chunk(ids[0], "h:1:3:x")
    assert taken is not None
    taken.done(10)
    assert handle.add_chunk(**chunk(0)) == ids[0]  # type: ignore[arg-type]
    assert len(outbox.sent) == 2
    assert handle.chunks(1)[0].state is ChunkState.DONE


def test_a_newer_snapshot_voids_the_older(store: Store, handle: StreamHandle) -> None:
    old = begin(handle)
    running = store.claim_chunk(old[0], "h:1:3:x")
    assert running is not None
    assert handle.begin_snapshot("other", 500, 0, 7, None) == 2
    assert {c.state for c in handle.chunks(1)} == {ChunkState.VOID}
    with pytest.raises(Fenced):
        running.renew(5)
    with pytest.raises(Fenced):
        running.done(5)
    assert store.claim_chunk(old[1], "h:1:3:x") is None
    with pytest.raises(Fenced):
        handle.add_chunk(**chunk(9, gen=1))  # type: ignore[arg-type]
    node = handle.node()
    assert (node.keys_done, node.bytes_done, node.keys_total) == (0, 0, 7)


def test_progress_counts_the_present_snapshot_once(store: Store, handle: StreamHandle) -> None:
    ids = begin(handle)
    first = store.claim_chunk(ids[0], "h:1:3:x")
    assert first is not None
    first.renew(4)
    assert (handle.node().keys_done, handle.node().bytes_done) == (4, 400)
    first.done(10)
    second = store.claim_chunk(ids[1], "h:1:3:x")
    assert second is not None
    second.done(10)
    state = handle.load_state(1)
    assert (state.chunks, state.done, state.keys_done, state.bytes_done) == (2, 2, 20, 2000)
    handle.reload([ids[0]])
    assert handle.node().keys_done == 10
    again = store.claim_chunk(ids[0], "h:1:3:x")
    assert again is not None
    again.done(10)
    assert handle.node().keys_done == 20


def test_reload_sends_again_what_the_target_lost(store: Store, handle: StreamHandle, outbox: Outbox) -> None:
    ids = begin(handle)
    taken = store.claim_chunk(ids[0], "h:1:3:x")
    assert taken is not None
    taken.done(10)
    outbox.sent.clear()
    handle.reload(ids)
    assert outbox.sent == [(names.LOAD, ids[0])], "the other is on its way already"
    assert handle.load_state(1).done == 0


def test_voided_chunks_count_as_there(store: Store, handle: StreamHandle) -> None:
    ids = begin(handle)
    taken = store.claim_chunk(ids[0], "h:1:3:x")
    assert taken is not None
    taken.done(10)
    handle.void_chunks(1)
    assert [c.state for c in handle.chunks(1)] == [ChunkState.DONE, ChunkState.VOID]
    assert store.claim_chunk(ids[1], "h:1:3:x") is None
    assert handle.node().keys_done == 20
    state = handle.load_state(1)
    assert (state.chunks, state.done) == (1, 1)


def test_a_broker_away_leaves_the_chunk_to_the_scheduler(
    store: Store, handle: StreamHandle, outbox: Outbox, wall: Wall
) -> None:
    outbox.broken = True
    (lost,) = begin(handle, 1)
    outbox.broken = False
    sent = handle.add_chunk(**chunk(1))  # type: ignore[arg-type]
    with store.database.read() as session:
        assert session.get_one(Chunk, lost).dispatched_at is None
        assert session.get_one(Chunk, sent).dispatched_at == wall.now


def test_a_message_is_sent_after_the_commit(store: Store, handle: StreamHandle, outbox: Outbox) -> None:
    seen: list[object] = []
    handle._publish = lambda ids: seen.append(store.claim_chunk(ids[0], "h:1:3:x"))
    begin(handle, 1)
    assert seen != [None]


def test_the_task_synchronizes_once_the_stream_begins(store: Store, task_id: int, handle: StreamHandle) -> None:
    begin(handle)
    assert store.task(task_id).state is TaskState.INITIALIZING
    handle.begin_stream()
    handle.begin_stream()
    assert store.task(task_id).state is TaskState.SYNCHRONIZING
    assert handle.node().begun


def test_a_new_snapshot_initializes_again(store: Store, task_id: int, handle: StreamHandle) -> None:
    begin(handle)
    handle.begin_stream()
    handle.begin_snapshot("other", 1, 0, None, None)
    assert store.task(task_id).state is TaskState.INITIALIZING


def test_a_failed_task_begins_no_snapshot(store: Store, task_id: int, handle: StreamHandle) -> None:
    store.fail(task_id, ConnectionLost("x", side=Side.SOURCE))
    with pytest.raises(Fenced, match="failed"):
        handle.begin_snapshot("r", 1, 0, None, None)


def test_progress_sets_columns_and_no_others(handle: StreamHandle) -> None:
    handle.progress({"received_offset": 2**40, "applied_offset": 5, "source_offset": 9, "delay_ms": 0.5, "held": 3})
    node = handle.node()
    assert (node.received_offset, node.applied_offset, node.source_offset) == (2**40, 5, 9)
    assert (node.delay_ms, node.held) == (0.5, 3)
    with pytest.raises(KeyError):
        handle.progress({"wanted": False})


def test_healed_costs_nothing_while_all_is_well(store: Store, handle: StreamHandle) -> None:
    handle.healed("source")
    handle.healed("target")
    statements: list[str] = []
    event.listen(store.database.engine(), "before_cursor_execute", lambda *args: statements.append(args[2]))
    for _ in range(100):
        handle.healed("source")
        handle.healed("target")
    assert statements == []
    handle.failing(ConnectionLost("cut", side=Side.TARGET))
    statements.clear()
    handle.healed("source")
    assert statements == []
    handle.healed("target")
    assert statements


def test_the_first_healed_closes_what_a_dead_predecessor_opened(
    store: Store, task_id: int, handle: StreamHandle
) -> None:
    handle.failing(ConnectionLost("cut", side=Side.SOURCE))
    store.release_owner("h:1")
    newer = store.claim_node(1, "h:5:6:y")
    assert newer is not None
    assert store.retries(task_id)
    newer.healed("source")
    assert store.retries(task_id) == []


def test_trouble_of_our_own_is_over_after_a_while_of_quiet(
    store: Store, task_id: int, handle: StreamHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner that died of a full disk cannot say that there is room again; one that keeps dying is not healed."""
    handle.failing(SpoolFull("no space"))
    store.release_owner("h:1")
    now = [1000.0]
    monkeypatch.setattr(stream, "time", SimpleNamespace(monotonic=lambda: now[0]))
    newer = store.claim_node(1, "h:5:6:y")
    assert newer is not None

    newer.healed("control", 5.0)
    assert store.retries(task_id)
    now[0] += 4.0
    pause = newer.failing(SpoolFull("no space"))
    now[0] += pause + 4.9
    newer.healed("control", 5.0)
    assert store.retries(task_id)
    now[0] += 0.2
    newer.healed("control", 5.0)
    assert store.retries(task_id) == []
    assert store.task(task_id).error is None


def test_a_stream_does_not_speak_for_the_loaders(store: Store, task_id: int, handle: StreamHandle) -> None:
    [chunk_id] = begin(handle, 1)
    loader = store.claim_chunk(chunk_id, "h:1:3:z")
    assert loader is not None
    store.chunk_failed(chunk_id, loader.chunk.epoch, ControlError("torn", code="x", retry=Retry.OTHER))
    handle.healed("control")
    assert store.retries(task_id)


def test_two_threads_of_one_owner(handle: StreamHandle) -> None:
    """One raises the epoch and works, the other beats all the while."""
    failures: list[BaseException] = []
    stop = threading.Event()

    def beat() -> None:
        try:
            while not stop.is_set():
                handle.renew()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=beat)
    thread.start()
    for epoch in range(10, 40):
        handle.raise_epoch(epoch)
        handle.progress({"applied_offset": epoch})
    stop.set()
    thread.join(10)
    assert failures == []
    assert handle.node().applied_offset == 39


def test_a_release_of_owners_takes_whole_names_alone(store: Store, handle: StreamHandle) -> None:
    store.release_owner("h:1:2")
    taken = store.claim_node(1, "h:12:1:x")
    assert taken is not None
    for other in ("h:1", "h", "_:12", "%", "h:12:"):
        if other in ("h", "h:12:"):
            continue
        store.release_owner(other)
        assert taken.renew().wanted
    store.release_owner("h:12:")
    with pytest.raises(Fenced):
        taken.renew()


def test_a_freed_node_is_sent_at_once(store: Store, handle: StreamHandle, wall: Wall) -> None:
    handle.failing(ConnectionLost("cut", side=Side.SOURCE))
    store.release_owner("h:1")
    with store.database.read() as session:
        node = session.get_one(Node, 1)
        assert (node.dispatched_at, node.next_at) == (None, None)


def test_what_is_heard_at_once_is_the_jobs_from_its_next_beat_on(
    store: Store, task_id: int, handle: StreamHandle
) -> None:
    """And what it begins later goes by it; other settings are another shift's."""
    throttle = ThrottleSpec(full=FullThrottle(target_rps=7), incremental=IncrementalThrottle(mb_per_s=3))
    retry = RetrySpec(other_min=5)
    store.modify(task_id, TaskSpec(throttle=throttle, instance_class="micro", retry=retry, extend_expiry_s=1))
    assert handle.task.spec == TaskSpec()
    assert handle.renew().limits == Limits(200.0, 3e6)
    assert handle.task.spec == TaskSpec(throttle=throttle, instance_class="micro", retry=retry)


def test_a_suspension_while_a_snapshot_begins_is_no_failure(
    store: Store, task_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source's answer comes within the second in which the job has not heard of it yet."""
    class Job:
        def __init__(self, port: StreamHandle, *_: object) -> None:
            self.port, self.node = port, port.node()

        def run(self) -> None:
            store.halt(task_id)
            self.port.begin_snapshot("r", 1, 0, None, None)

    app = SimpleNamespace(keyferry_settings=Settings(spool_shared=True, host="h"))
    monkeypatch.setattr(tasks, "_store", lambda _: store)
    monkeypatch.setattr(tasks, "StreamJob", Job)
    monkeypatch.setattr(tasks, "shown", lambda _: lambda _: None)
    message = SimpleNamespace(app=app, name=names.FOLLOW, request=SimpleNamespace(headers=None))
    tasks.follow.run.__func__(message, store.nodes(task_id)[0].id)
    assert store.task(task_id).state == TaskState.SUSPENDED
    assert store.owners("h:") == []
    store.resume(task_id)
