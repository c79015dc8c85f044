"""A load worker's hold on a chunk."""

from __future__ import annotations

import pytest

from sync_tasks.errors import ConnectionLost, ControlError, Fenced, Malformed, Retry, Side, TargetBusy, TargetError
from sync_tasks.models import Chunk
from sync_tasks.retry_policy import LONGEST_S
from sync_tasks.spec import TaskSpec
from sync_tasks.states import ChunkState, TaskState
from sync_tasks.store import Store
from sync_tasks.store.orphans import SUSPECT
from sync_tasks.throttle import FullThrottle, Limits, ThrottleSpec
from sync_tasks.views import STORED
from tests.unit.control.conftest import SOURCE, TARGET, Wall, chunk, started


@pytest.fixture
def chunk_id(store: Store, task_id: int) -> int:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    return handle.add_chunk(**chunk(0))  # type: ignore[arg-type]


def row(store: Store, chunk_id: int) -> Chunk:
    with store.database.read() as session:
        return session.get_one(Chunk, chunk_id)


def test_a_chunk_has_one_loader(store: Store, chunk_id: int) -> None:
    taken = store.claim_chunk(chunk_id, "h:1:3:x")
    assert taken is not None
    assert (taken.node_number, taken.chunk.state, taken.chunk.epoch) == (0, ChunkState.RUNNING, 1)
    assert store.claim_chunk(chunk_id, "h:1:4:y") is None
    taken.renew(3)
    taken.done(10)
    assert store.claim_chunk(chunk_id, "h:1:4:y") is None
    with pytest.raises(Fenced):
        taken.done(10)


def test_it_says_how_far_it_is_and_of_how_many_once_all_have_come(store: Store, task_id: int) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    gen = handle.begin_snapshot("r", 1, 0, None, None)
    first, *_ = [handle.add_chunk(**chunk(seq)) for seq in range(3)]  # type: ignore[arg-type]
    taken = store.claim_chunk(first, "h:1:3:x")
    assert taken is not None
    said: list[str] = []
    taken.say = said.append
    taken.renew(3)
    handle.end_snapshot(gen, 30, 3000)
    taken.renew(5)
    assert said == ["chunk 1: 3 of 10 keys", "chunk 1 of 3: 5 of 10 keys"]
    taken.done(10)


def test_loaders_have_equal_parts_of_what_their_task_may(store: Store) -> None:
    """As of their last beats; those who ask the source share that among them."""
    throttle = ThrottleSpec(full=FullThrottle(target_rps=900, mb_per_s=3, source_qps=200))
    task_id = started(store, store.create_task(TaskSpec(reader="scan", throttle=throttle), SOURCE, TARGET).id)
    handle = store.claim_node(store.nodes(task_id)[0].id, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    paths = ["000000-1-0-r.range", "000001-1-1-r.range", "c2"]
    ids = [handle.add_chunk(**{**chunk(seq), "path": path}) for seq, path in enumerate(paths)]  # type: ignore[arg-type]
    taken = [store.claim_chunk(one, f"h:1:{one}:x") for one in ids]
    for one in taken:
        assert one is not None
        one.renew(0)
    said = [(one.limits, one.asking) for one in taken if one is not None]
    assert said == [(Limits(300.0, 1e6), Limits(100.0))] * 2 + [(Limits(300.0, 1e6), Limits())]
    store.modify(task_id, TaskSpec(reader="scan"))
    for one in taken:
        assert one is not None
        one.renew(0)
        assert (one.limits, one.asking) == (Limits(), Limits())


def test_an_unknown_chunk(store: Store, task_id: int) -> None:
    assert store.claim_chunk(77, "h:1:3:x") is None


def test_an_older_owner_is_fenced(store: Store, chunk_id: int) -> None:
    older = store.claim_chunk(chunk_id, "h:1:3:x")
    assert older is not None
    store.release_owner("h:1:3")
    newer = store.claim_chunk(chunk_id, "h:1:3:x")
    assert newer is not None
    for write in (older.renew, older.done):
        with pytest.raises(Fenced):
            write(5)
    store.chunk_failed(chunk_id, older.chunk.epoch, TargetError("late"))
    newer.done(10)
    assert row(store, chunk_id).state == ChunkState.DONE


@pytest.mark.parametrize("state", [TaskState.SUSPENDED, TaskState.FAILED, TaskState.FINISHED])
def test_a_task_that_does_not_run_loads_nothing(store: Store, task_id: int, chunk_id: int, state: TaskState) -> None:
    taken = store.claim_chunk(chunk_id, "h:1:3:x")
    assert taken is not None
    store.transition(task_id, state, "test")
    with pytest.raises(Fenced):
        taken.renew(1)
    with pytest.raises(Fenced):
        taken.done(10)
    store.release_owner("h:1:3")
    assert store.claim_chunk(chunk_id, "h:1:3:x") is None


def test_a_failed_load_waits_longer_each_time(store: Store, task_id: int, chunk_id: int, wall: Wall) -> None:
    pauses = []
    for attempt in range(1, 8):
        taken = store.claim_chunk(chunk_id, "h:1:3:x")
        assert taken is not None
        store.chunk_failed(chunk_id, taken.chunk.epoch, TargetBusy("LOADING"))
        found = row(store, chunk_id)
        assert (found.state, found.attempts, found.dispatched_at) == (ChunkState.READY, attempt, None)
        assert found.next_at is not None
        pauses.append(found.next_at - wall.now)
        assert store.claim_chunk(chunk_id, "h:1:3:x") is None, "not before its time"
        wall.now = found.next_at
    assert pauses[0] < pauses[3] < pauses[6] <= LONGEST_S
    (window,) = store.retries(task_id)
    assert (window.kind, window.side, window.attempts) == ("other", "target", 7)
    assert store.task(task_id).state is TaskState.RETRYING


def test_a_loaded_chunk_closes_the_targets_window(store: Store, task_id: int, chunk_id: int, wall: Wall) -> None:
    taken = store.claim_chunk(chunk_id, "h:1:3:x")
    assert taken is not None
    store.chunk_failed(chunk_id, taken.chunk.epoch, ConnectionLost("cut", side=Side.TARGET))
    wall.now += 60
    again = store.claim_chunk(chunk_id, "h:1:3:x")
    assert again is not None
    assert store.retries(task_id)
    again.done(10)
    assert store.retries(task_id) == []
    assert store.task(task_id).state is TaskState.INITIALIZING


def test_a_fatal_error_ends_the_task(store: Store, task_id: int, chunk_id: int) -> None:
    taken = store.claim_chunk(chunk_id, "h:1:3:x")
    assert taken is not None
    store.chunk_failed(chunk_id, taken.chunk.epoch, Malformed("bad length", 17))
    task = store.task(task_id)
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert (task.error["code"], task.error["message"]) == ("malformed", "bad length at byte 17")


def test_a_clock_set_back_does_not_hold_a_chunk(store: Store, chunk_id: int, wall: Wall) -> None:
    taken = store.claim_chunk(chunk_id, "h:1:3:x")
    assert taken is not None
    store.chunk_failed(chunk_id, taken.chunk.epoch, TargetBusy("LOADING"))
    wall.now -= 3600
    assert store.claim_chunk(chunk_id, "h:1:3:x") is not None


def test_a_chunk_that_kills_its_loaders_is_tried_within_a_window(
    store: Store, task_id: int, chunk_id: int, wall: Wall
) -> None:
    for death in range(1, SUSPECT + 1):
        taken = store.claim_chunk(chunk_id, "h:1:3:x")
        assert taken is not None
        store.release_owner("h:1")
        found = row(store, chunk_id)
        assert (found.next_at is None) == (death == 1), "the first time at once, then after a pause"
        assert bool(store.retries(task_id)) == (death == SUSPECT)
        wall.now += 60
    assert "died" in store.retries(task_id)[0].last_error


@pytest.mark.parametrize(
    ("code", "told"), [("snapshot-damaged", "1 damaged"), ("source-restarted", "1 outdated"), ("spool", None)]
)
@pytest.mark.parametrize("place", [STORED, "/"])
def test_what_is_wrong_in_the_object_store_is_told_to_who_takes_snapshots(
    store: Store, task_id: int, code: str, told: str | None, place: str
) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    gen = handle.begin_snapshot("r", 1, 0, None, None)
    chunk_id = handle.add_chunk(**{**chunk(0, gen), "path": f"{place}x.chunk"})  # type: ignore[arg-type]
    taken = store.claim_chunk(chunk_id, "h:1:3:x")
    assert taken is not None
    store.chunk_failed(chunk_id, taken.chunk.epoch, ControlError("x", code=code, retry=Retry.OTHER))
    assert handle.node().spoiled == (told if place == STORED else None)
    handle.begin_snapshot("r", 1, 0, None, None)
    assert handle.node().spoiled is None


def test_only_files_of_the_spool_bind_a_chunk_to_it(store: Store, task_id: int) -> None:
    handle = store.claim_node(1, "h:1:2:x", "0123456789ab")
    assert handle is not None
    gen = handle.begin_snapshot("r", 1, 0, None, None)
    found = [
        handle.add_chunk(**{**chunk(seq, gen), "path": f"{place}x.chunk"})  # type: ignore[arg-type]
        for seq, place in enumerate(("/spool/", STORED))
    ]
    assert [row(store, chunk_id).spool for chunk_id in found] == ["0123456789ab", None]


def test_what_was_found_of_a_snapshot_is_over_once_a_stream_has_begun_behind_it(store: Store, chunk_id: int) -> None:
    """Else, each time that the target is away, it would be taken for damaged, and the source not be followed."""
    taken = store.claim_chunk(chunk_id, "h:1:3:x")
    assert taken is not None
    with store.database.write() as session:
        session.get_one(Chunk, chunk_id).path = f"{STORED}x.chunk"
    store.chunk_failed(chunk_id, taken.chunk.epoch, ControlError("x", code="snapshot-damaged", retry=Retry.OTHER))
    (node,) = store.nodes(1)
    assert node.spoiled == "1 damaged"
    store.release_owner("h:1:2")
    handle = store.claim_node(node.id, "h:1:4:x")
    assert handle is not None
    handle.begin_stream()
    assert handle.node().spoiled is None
