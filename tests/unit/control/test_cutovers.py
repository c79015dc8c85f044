"""Cut-overs as the database holds them: asked for, given back, taken back, and the order that stays."""

from __future__ import annotations

import pytest

from sync_tasks.cutover import Asked, CutOver
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, Fenced, Side, TargetError
from sync_tasks.lanes import Closed, lanes_of
from sync_tasks.spec import TaskSpec
from sync_tasks.states import OpKind, OpState, Stage, TaskState
from sync_tasks.store import Store
from sync_tasks.store.ops import OpHandle
from sync_tasks.store.stream import StreamHandle
from sync_tasks.topology import Shard
from tests.unit.control.conftest import SOURCE, TARGET, Wall, only_sqlite

POINT = "a" * 40 + ":77:0"


@pytest.fixture
def task_id(store: Store) -> int:
    """Of a task that synchronizes; nobody has its stream."""
    made = store.create_task(TaskSpec(), SOURCE, TARGET).id
    for state in (TaskState.PRECHECKING, TaskState.PRECHECK_PASSED, TaskState.INITIALIZING, TaskState.SYNCHRONIZING):
        store.transition(made, state, "test")
    store.start(made)
    return made


def claimed(store: Store, task_id: int, asked: Asked) -> OpHandle:
    op = store.ask_finish(task_id, asked)
    assert op is not None
    handle = store.claim_op(op.id, "h:1:2:x")
    assert handle is not None
    return handle


def test_it_is_given_back_and_taken_up_where_it_was(store: Store, task_id: int, wall: Wall) -> None:
    handle = claimed(store, task_id, Asked(pause=True))
    handle.order(Stage.SETTLE)
    stream = store.claim_node(1, "h:1:3:x")
    assert stream is not None
    assert (stream.renew().settling, stream.renew().finishing) == (True, False)
    handle.keep({**handle.op.options, "kept": {"here": 1}})
    handle.later(1.0)
    with pytest.raises(Fenced):
        handle.renew()
    assert store.claim_op(handle.op.id, "h:1:4:x") is None, "not yet"
    wall.now += 2
    again = store.claim_op(handle.op.id, "h:1:4:x")
    assert again is not None
    assert again.op.options["kept"] == {"here": 1}
    again.failed(TargetError("they differ", code="verify-failed"))
    assert not stream.renew().settling
    assert store.task(task_id).cutover is None
    assert store.task(task_id).error is None, "the task itself is as it was"
    found = CutOver.of(store.cut_overs(task_id)[-1])
    assert (found.state, found.asked.pause, found.error and found.error.code) == ("failed", True, "verify-failed")


@only_sqlite
def test_the_order_to_close_is_not_taken_back(store: Store, task_id: int) -> None:
    handle = claimed(store, task_id, Asked())
    handle.order(Stage.CLOSE)
    handle.order(None)
    handle.failed(TargetError("gone"))
    assert (store.task(task_id).cutover, store.task(task_id).finishing) == (Stage.CLOSE, True)
    stream = store.claim_node(1, "h:1:3:x")
    assert stream is not None
    assert stream.renew().finishing


@only_sqlite
def test_another_one_is_refused_and_the_same_is_joined(store: Store, task_id: int) -> None:
    first = store.ask_finish(task_id, Asked(pause=True))
    assert first is not None
    assert store.ask_finish(task_id, Asked(pause=True)) == first
    with pytest.raises(ControlError, match="finish is not over"):
        store.ask_finish(task_id, Asked())
    with pytest.raises(ControlError, match="finish is not over"):
        store.modify(task_id, TaskSpec(extend_expiry_s=1))
    store.halt(task_id)
    handle = store.claim_op(first.id, "h:1:2:x")
    assert handle is not None
    with pytest.raises(ControlError) as caught:
        handle.order(Stage.SETTLE)
    assert caught.value.code == "suspended"


@only_sqlite
def test_a_dry_run_leaves_no_trace_in_the_task(store: Store, task_id: int) -> None:
    before, events = store.task(task_id), store.events(task_id)
    handle = claimed(store, task_id, Asked(dry_run=True))
    handle.done()
    assert (store.task(task_id), store.events(task_id)) == (before, events)
    assert store.cut_overs(task_id) == []
    assert len(store.cut_overs(task_id, dry=True)) == 1


@only_sqlite
def test_who_watches_is_in_nobodys_way_unless_a_setting_must_be_put_back(
    store: Store, task_id: int, wall: Wall
) -> None:
    handle = claimed(store, task_id, Asked())
    handle.order(Stage.CLOSE)
    stream = store.claim_node(1, "h:1:3:x")
    assert stream is not None
    stream.progress({"way_back": POINT})
    stream.finished()
    held = {"0": {"pause": True, "setting": None, "before": []}}
    watching = {"baseline": {}, "offsets": {}, "held": held, "held_until": wall.now + 60}
    handle.watch(watching)
    handle.watch(watching)
    handle.done()
    assert [op.kind for op in store.ops(task_id)] == [OpKind.FINISH, OpKind.LATE]
    with pytest.raises(ControlError, match="paused for another 60 s"):
        store.ask_reverse(task_id)
    wall.now += 61
    back = store.ask_reverse(task_id)
    assert (back.source, back.target) == (store.task(task_id).target, store.task(task_id).source)
    assert back.state is TaskState.PRECHECKING
    assert [node.begins_at for node in store.nodes(back.id)] == [POINT]
    assert store.ops(task_id)[-1].state is OpState.DONE, "nobody watches any more"
    store.request(task_id, OpKind.RELEASE)


CLUSTER = Endpoint.parse("redis+cluster://a:1,b:2,c:3", Side.TARGET)
MASTERS = lanes_of(
    [Shard(((0, 8191),), ("a", 1), (), "a"), Shard(((8192, 16383),), ("b", 2), (("b", 3),), "b")],
)


def at(offset: int) -> str:
    return f"{'a' * 40}:{offset}:0"


def closing(store: Store) -> tuple[int, list[StreamHandle]]:
    """A task with two source nodes, which is ordered to close a cluster of two masters; the jobs of its streams."""
    made = store.create_task(TaskSpec(), SOURCE, CLUSTER).id
    for state in (TaskState.PRECHECKING, TaskState.PRECHECK_PASSED, TaskState.INITIALIZING, TaskState.SYNCHRONIZING):
        store.transition(made, state, "test")
    store.start(made)
    first = store.claim_node(store.nodes(made)[0].id, "h:1:3:x")
    assert first is not None
    first.lay_out([Shard(((0, 99),), ("s", 1), (), "s"), Shard(((100, 16383),), ("t", 1), (), "t")])
    second = store.claim_node(store.nodes(made)[1].id, "h:1:4:x")
    assert second is not None
    first.set_lanes(MASTERS)
    handle = claimed(store, made, Asked(force=True))
    handle.order(Stage.CLOSE)
    handle.done()
    return made, [first, second]


@only_sqlite
def test_the_last_to_close_a_master_says_where_its_way_back_begins(store: Store) -> None:
    made, (first, second) = closing(store)
    first.close_lanes({0: Closed(0, at(70), ("a",), "a:1"), 1: Closed(0, at(9), ("b",), "b:2")})
    first.finished()
    second.close_lanes({0: Closed(1, at(99), ("a",), "a:1"), 1: Closed(1, at(30), ("b", "c"), "b:3")})
    second.close_lanes({0: Closed(1, at(60), ("a",), "a:1")})  # its job died, and another says so once more
    second.finished()
    back = store.ask_reverse(made)
    nodes = store.nodes(back.id)
    assert [(node.begins_at, node.slots) for node in nodes] == [(at(70), "0-8191"), (at(30), "8192-16383")]
    shards = [node.shard for node in nodes if node.shard is not None]
    assert [(one.members, one.address, one.holds) for one in shards] == [
        (("a",), "a:1", MASTERS[0].slots), (("b", "c"), "b:3", MASTERS[1].slots),
    ]  # fmt: skip


@only_sqlite
def test_a_stream_that_has_not_said_where_leaves_no_way_back(store: Store) -> None:
    made, (first, second) = closing(store)
    first.close_lanes({0: Closed(0, at(70), ("a",), "a:1"), 1: Closed(0, at(9), ("b",), "b:2")})
    first.finished()
    second.close_lanes({0: Closed(1, at(60), ("a",), "a:1")})
    second.finished()
    with pytest.raises(ControlError) as caught:
        store.ask_reverse(made)
    assert caught.value.code == "no-way-back"


@only_sqlite
def test_a_database_that_one_url_alone_has_named_is_named_on_the_way_back(store: Store) -> None:
    source = Endpoint.parse("redis://a:1/3", Side.SOURCE)
    made = store.create_task(TaskSpec(), source, CLUSTER).id
    for state in (TaskState.PRECHECKING, TaskState.PRECHECK_PASSED, TaskState.INITIALIZING, TaskState.SYNCHRONIZING):
        store.transition(made, state, "test")
    store.start(made)
    stream = store.claim_node(store.nodes(made)[0].id, "h:1:3:x")
    assert stream is not None
    stream.progress({"way_back": POINT})
    stream.finished()
    assert store.task(store.ask_reverse(made).id).databases == {3: 3}
