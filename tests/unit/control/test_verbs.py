"""What operators ask of tasks: where it is allowed, what it does, what it says."""

from __future__ import annotations

import pytest

from sync_tasks import names
from sync_tasks.errors import ConnectionLost, ControlError, Fenced, KeyferryError, Side, TaskRests, UsageError
from sync_tasks.extent import Extent
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.lanes import lanes_of
from sync_tasks.models import Node
from sync_tasks.spec import TaskSpec
from sync_tasks.states import ENDED, RESTING, RUNNING, OpKind, OpState, TaskState
from sync_tasks.store import Store
from sync_tasks.store.stream import StreamHandle
from sync_tasks.store.verbs import FOR_GOOD
from sync_tasks.supervise.opening import FINAL
from sync_tasks.throttle import Limits
from sync_tasks.topology import Shard
from sync_tasks.transform.setting import TransformSpec
from sync_tasks.views import OpView, TaskView
from tests.unit.control.conftest import SOURCE, TARGET, chunk, started
from tests.unit.control.processes import PROCESSES, in_processes
from tests.unit.control.test_lifecycle import put

S = TaskState
VERBS = {
    "halt": (lambda store, task_id: store.halt(task_id), RUNNING | {S.SUSPENDED}),
    "resume": (lambda store, task_id: store.resume(task_id), RUNNING | RESTING),
    "modify": (lambda store, task_id: store.modify(task_id, TaskSpec(extend_expiry_s=1)), frozenset(S) - ENDED),
    "finish": (lambda store, task_id: store.finish(task_id), RUNNING | {S.SUSPENDED, S.FINISHED}),
}
CUT = ConnectionLost("cut", side=Side.TARGET)


@pytest.fixture
def handle(store: Store, task_id: int) -> StreamHandle:
    """A stream that has begun."""
    claimed = store.claim_node(1, "h:1:2:x")
    assert claimed is not None
    gen = claimed.begin_snapshot("r", 1, 0, None, None)
    claimed.end_snapshot(gen, 0, 0)
    claimed.begin_stream()
    return claimed


def kinds(store: Store, task_id: int) -> list[str]:
    return [event.kind for event in store.events(task_id)]


@pytest.mark.parametrize("verb", VERBS)
def test_every_state_allows_a_verb_or_says_why_not(store: Store, verb: str) -> None:
    ask, allowed = VERBS[verb]
    for state in TaskState:
        task_id = store.create_task(TaskSpec(), SOURCE, TARGET).id
        put(store, task_id, state)
        if state in allowed:
            assert ask(store, task_id) == store.task(task_id)
            continue
        with pytest.raises(ControlError, match=f"a task that is {state.value} cannot be") as caught:
            ask(store, task_id)
        assert (caught.value.code, bool(caught.value.hint)) == ("transition", True)
        assert (store.task(task_id).state, kinds(store, task_id)) == (state, ["created"])


def test_a_task_that_is_not_there(store: Store) -> None:
    for ask, _ in VERBS.values():
        with pytest.raises(ControlError, match="no task 9"):
            ask(store, 9)


def test_a_suspended_task_is_not_wanted_and_says_so_once(store: Store, task_id: int, handle: StreamHandle) -> None:
    assert store.halt(task_id, "the target moves").state is S.SUSPENDED
    assert not handle.renew().wanted
    before = store.events(task_id)
    assert (before[-1].kind, before[-1].text) == ("suspended", "the target moves")
    store.halt(task_id)
    assert store.events(task_id) == before


def test_a_resumed_task_goes_on_where_it_was(store: Store, task_id: int, handle: StreamHandle) -> None:
    store.halt(task_id)
    store.release_node(1, handle.epoch)
    assert store.resume(task_id).state is S.SYNCHRONIZING
    (node,) = store.nodes(task_id)
    assert (node.wanted, node.fresh, node.gen) == (True, True, 1)
    before = store.events(task_id)
    store.resume(task_id)
    assert store.events(task_id) == before
    assert store.claim_node(1, "h:3:4:y") is not None


def test_a_resumption_takes_nothing_from_a_stream_that_runs(store: Store, task_id: int, handle: StreamHandle) -> None:
    store.resume(task_id)
    assert handle.renew().wanted


def test_what_failed_may_be_resumed_unless_it_failed_for_good(store: Store, task_id: int) -> None:
    store.fail(task_id, CUT)
    assert store.resume(task_id).state is S.INITIALIZING
    for code, hint in FOR_GOOD.items():
        store.fail(task_id, KeyferryError("gone", code=code, side=Side.SOURCE))
        with pytest.raises(ControlError, match="failed for good: gone") as caught:
            store.resume(task_id)
        assert (caught.value.code, caught.value.side, caught.value.hint) == (code, Side.SOURCE, hint)
        put(store, task_id, S.SYNCHRONIZING)


def test_the_foreground_command_refuses_the_same_failures() -> None:
    assert set(FOR_GOOD) == set(FINAL)


@pytest.mark.parametrize("verb", ["resume", "finish"])
def test_no_stream_begins_while_an_operation_is_open(store: Store, task_id: int, verb: str) -> None:
    store.request(task_id, OpKind.RESTART)
    with pytest.raises(ControlError, match="restart is not over") as caught:
        VERBS[verb][0](store, task_id)
    assert caught.value.code == "busy"
    assert store.task(task_id).state is S.SUSPENDED


def test_new_settings_are_taken_up_at_a_checkpoint(store: Store, task_id: int, handle: StreamHandle) -> None:
    changed = store.modify(task_id, TaskSpec(extend_expiry_s=5, retry={"other_min": 3}))  # type: ignore[arg-type]
    assert (changed.state, changed.spec.extend_expiry_s, changed.spec.retry.other_min) == (S.MODIFYING, 5, 3)
    assert "extend_expiry_s, retry" in [event.text for event in store.events(task_id)]
    assert handle.renew().turn
    store.release_node(1, handle.epoch)
    following = store.claim_node(1, "h:1:2:y")
    assert following is not None
    assert (following.renew().turn, following.task.spec.extend_expiry_s) == (False, 5)
    store.modify(task_id, TaskSpec(extend_expiry_s=6))
    assert following.renew().turn, "what it has taken up is older than that"
    following.took_up()
    assert store.task(task_id).state is S.SYNCHRONIZING


def test_throttles_and_class_are_heard_at_the_next_beat(store: Store, task_id: int, handle: StreamHandle) -> None:
    assert handle.renew().limits == Limits()
    throttle = {"incremental": {"rps": 900, "mb_per_s": 0.5}}
    changed = store.modify(task_id, TaskSpec(name="n", throttle=throttle, instance_class="micro"))  # type: ignore[arg-type]
    spec = changed.spec
    assert (changed.state, spec.instance_class, spec.throttle.incremental.rps) == (S.SYNCHRONIZING, "micro", 900)
    orders = handle.renew()
    assert (orders.turn, orders.limits) == (False, Limits(200.0, 500_000.0))
    store.modify(task_id, TaskSpec(name="n", throttle=throttle, instance_class="small"))  # type: ignore[arg-type]
    assert handle.renew().limits == Limits(900.0, 500_000.0)
    assert store.events(task_id)[-1].text == "instance_class"


def test_how_a_source_is_read_cannot_change_once_copying_has_begun(store: Store, task_id: int) -> None:
    store.modify(task_id, TaskSpec(reader="scan"))
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    for changes in ({"scan_changes": "psync"}, {"reader": "psync"}):
        with pytest.raises(UsageError, match="cannot change once copying has begun") as caught:
            store.modify(task_id, TaskSpec.model_validate({"reader": "scan", **changes}))
        assert caught.value.code == "reader"


def test_loaders_share_what_the_task_may(store: Store, task_id: int) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    gen = handle.begin_snapshot("r", 1, 0, None, None)
    ids = [
        handle.add_chunk(gen=gen, seq=seq, db=0, shard=0, huge=False, path="p", keys=9, size=9) for seq in range(3)
    ]
    loaders = [store.claim_chunk(chunk, f"h:1:{chunk}:y") for chunk in ids[:2]]
    first, second = loaders
    assert first is not None
    assert second is not None
    first.renew(1)
    assert first.limits == Limits()
    store.modify(task_id, TaskSpec(throttle={"full": {"target_rps": 1000, "mb_per_s": 3}}))  # type: ignore[arg-type]
    first.renew(2)
    assert first.limits == Limits(500.0, 1_500_000.0)
    second.done(9)
    first.renew(3)
    assert first.limits == Limits(1000.0, 3_000_000.0)


def test_a_load_is_not_begun_anew_for_settings(store: Store, task_id: int) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    assert store.modify(task_id, TaskSpec(extend_expiry_s=5)).state is S.INITIALIZING
    assert not handle.renew().turn


def test_a_stream_that_is_being_retried_takes_them_up_too(store: Store, task_id: int, handle: StreamHandle) -> None:
    handle.progress({"applied_offset": 7})
    handle.failing(CUT)
    assert store.modify(task_id, TaskSpec(extend_expiry_s=5)).state is S.RETRYING
    assert handle.renew().turn
    handle.begin_snapshot("r", 9, 0, None, None)
    with store.database.write() as session:
        session.get_one(Node, 1).turn = False
    store.modify(task_id, TaskSpec(extend_expiry_s=6))
    assert not handle.renew().turn, "it loads"


def test_the_same_settings_turn_nothing(store: Store, task_id: int, handle: StreamHandle) -> None:
    assert store.modify(task_id, TaskSpec()).state is S.SYNCHRONIZING
    assert not handle.renew().turn
    assert store.events(task_id)[-1].text == "nothing changed"


def test_settings_may_be_made_of_the_present_ones(store: Store, task_id: int) -> None:
    store.modify(task_id, TaskSpec(name="n", extend_expiry_s=5))

    def refuse(_: TaskSpec) -> TaskSpec:
        raise UsageError("no such setting")

    store.modify(task_id, lambda spec: spec.model_copy(update={"extend_expiry_s": spec.extend_expiry_s + 1}))
    before = (store.task(task_id), store.events(task_id))
    with pytest.raises(UsageError, match="no such"):
        store.modify(task_id, refuse)
    assert (store.task(task_id), store.events(task_id)) == before
    assert (before[0].name, before[0].spec.extend_expiry_s) == ("n", 6)


def test_of_many_changes_at_once_none_is_lost(store: Store, task_id: int) -> None:
    def one_more(spec: TaskSpec) -> TaskSpec:
        return spec.model_copy(update={"extend_expiry_s": spec.extend_expiry_s + 1})

    in_processes(lambda _: [store.modify(task_id, one_more) for _ in range(5)])
    assert store.task(task_id).spec.extend_expiry_s == 600 + 5 * PROCESSES


FEWER = TaskSpec(databases={0: 0, 3: 3})
OTHERS = TaskSpec(databases={3: 3, 4: 2})


def carried_out(store: Store, task_id: int, op: OpView | None) -> TaskView:
    """By a worker that has found nothing against it."""
    assert op is not None
    handle = store.claim_op(op.id, "h:1:2:y")
    assert handle is not None
    handle.done()
    return store.task(task_id)


def test_what_is_taken_away_goes_at_once(store: Store, task_id: int, handle: StreamHandle) -> None:
    assert store.change(task_id, TaskSpec(databases={3: 3})) is None
    task = store.task(task_id)
    assert (task.databases, task.state, task.home) == ({3: 3}, S.MODIFYING, 0), "our own keys stay where they are"
    assert task.former == (Extent.of(None, FilterSpec()).text,)
    assert handle.renew().turn
    assert store.change(task_id, TaskSpec(databases={3: 3}, filter=FilterSpec(allow_prefixes=["a"]))) is None
    assert store.task(task_id).former == (Extent.of(None, FilterSpec()).text, Extent.of({3: 3}, FilterSpec()).text)


def test_what_is_added_is_looked_at_first(store: Store, task_id: int, handle: StreamHandle) -> None:
    store.change(task_id, TaskSpec(databases={3: 3}))
    handle.took_up()
    before = store.task(task_id)
    op = store.change(task_id, OTHERS)
    assert store.task(task_id) == before
    for spec in (OTHERS, TaskSpec(extend_expiry_s=3)):
        with pytest.raises(ControlError, match="its modify is not over yet"):
            store.change(task_id, spec)
    assert store.halt(task_id).state is S.SUSPENDED, "it stands in nobody's way"
    assert store.resume(task_id).state is S.SYNCHRONIZING
    after = carried_out(store, task_id, op)
    assert (after.databases, after.state, after.home) == ({3: 3, 4: 2}, S.MODIFYING, 0)
    assert kinds(store, task_id)[-3:] == ["synchronizing", "modified", "modifying"]


def test_what_stands_against_it_changes_nothing(store: Store, task_id: int, handle: StreamHandle) -> None:
    store.change(task_id, TaskSpec(databases={3: 3}))
    handle.took_up()
    before = store.task(task_id)
    op = store.change(task_id, OTHERS)
    assert op is not None
    worker = store.claim_op(op.id, "h:1:2:y")
    assert worker is not None
    worker.failed(CUT)
    assert store.task(task_id) == before
    assert store.op(op.id).state is OpState.FAILED, "whoever has asked is told at once"
    assert kinds(store, task_id)[-1] == "modify-failed"
    assert store.change(task_id, TaskSpec(databases={3: 3}, extend_expiry_s=4)) is None


@pytest.mark.parametrize("when", ["before", "with it"])
def test_nothing_is_added_under_a_transform(store: Store, task_id: int, handle: StreamHandle, when: str) -> None:
    lua = TransformSpec(lua="function transform(db, argv) end")
    less = TaskSpec(databases={3: 3}, transform=lua if when == "before" else TransformSpec())
    store.change(task_id, less)
    handle.took_up()
    with pytest.raises(UsageError, match="cannot be added to a task with a transform"):
        store.change(task_id, TaskSpec(databases={3: 3, 4: 2}, transform=TransformSpec() if when == "before" else lua))
    assert store.task(task_id).spec == less
    assert store.change(task_id, less.model_copy(update={"transform": lua, "extend_expiry_s": 3})) is None


def test_a_load_goes_by_one_extent(store: Store, task_id: int) -> None:
    claimed = store.claim_node(1, "h:1:2:x")
    assert claimed is not None
    assert store.change(task_id, FEWER) is None
    with pytest.raises(TaskRests, match="settings have changed"):
        claimed.begin_snapshot("r", 1, 0, None, None)
    claimed.reread()
    gen = claimed.begin_snapshot("r", 1, 0, None, None)
    narrower = FEWER.model_copy(update={"filter": FilterSpec(block_prefixes=["a"])})
    for spec in (OTHERS, TaskSpec(databases={3: 3}), narrower):
        with pytest.raises(ControlError, match="while a snapshot is loaded") as caught:
            store.change(task_id, spec)
        assert caught.value.code == "loading"
    claimed.end_snapshot(gen, 0, 0)
    claimed.begin_stream()
    op = store.change(task_id, OTHERS)
    claimed.begin_snapshot("r", 9, 0, None, None)
    assert carried_out(store, task_id, op).databases == FEWER.databases, "a load has begun meanwhile"
    assert op is not None
    assert (store.op(op.id).error or {})["code"] == "loading"


def test_a_restart_begins_with_what_is_in_scope(store: Store, task_id: int, handle: StreamHandle) -> None:
    store.change(task_id, TaskSpec(databases={3: 3}))
    store.release_node(1, handle.epoch)
    carried_out(store, task_id, store.request(task_id, OpKind.RESTART))
    assert (store.task(task_id).home, store.task(task_id).former) == (3, ())


def test_a_precheck_under_way_judges_the_settings_that_start(store: Store) -> None:
    task_id = store.create_task(TaskSpec(), SOURCE, TARGET).id
    op = store.request(task_id, OpKind.PRECHECK, start=True)
    store.modify(task_id, TaskSpec(databases={0: 1}))
    handle = store.claim_op(op.id, "h:1:2:x")
    assert handle is not None
    assert handle.task.databases == {0: 1}
    with pytest.raises(ControlError, match="precheck is not over"):
        store.modify(task_id, TaskSpec(databases={0: 2}))
    handle.done()
    store.modify(task_id, TaskSpec(databases={0: 2}))


def test_a_cut_over_is_asked_for_once_and_ends_with_the_last_stream(
    store: Store, task_id: int, handle: StreamHandle
) -> None:
    assert not handle.renew().finishing
    assert store.finish(task_id).finishing
    store.finish(task_id)
    assert kinds(store, task_id).count("finishing") == 1
    assert handle.renew().finishing
    handle.finished()
    task = store.finish(task_id)
    assert task.state is S.FINISHED
    assert not store.nodes(task_id)[0].wanted


def test_what_rests_is_begun_to_be_finished_and_again_if_it_was_suspended(store: Store, task_id: int) -> None:
    for turn in range(2):
        store.halt(task_id)
        assert store.finish(task_id).state is S.INITIALIZING, turn
        handle = store.claim_node(1, f"h:1:2:{turn}")
        assert handle is not None
        assert handle.renew().finishing
        store.release_node(1, handle.epoch)


def test_what_failed_in_its_cut_over_is_not_said_to_be_finished(store: Store, task_id: int) -> None:
    store.finish(task_id)
    store.fail(task_id, CUT)
    with pytest.raises(ControlError, match="failed cannot be finished") as caught:
        store.finish(task_id)
    assert "resume" in caught.value.hint
    store.resume(task_id)
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    assert handle.renew().finishing


def test_streams_of_a_worker_that_drains_go_to_others(store: Store) -> None:
    ids = [started(store, store.create_task(TaskSpec(), SOURCE, TARGET).id) for _ in range(3)]
    owners = ["rack_1:11:12:x", "rack_1:111:12:x", "rackx1:11:12:x"]
    handles = [store.claim_node(node, owner) for node, owner in zip((1, 2, 3), owners, strict=True)]
    assert store.drain("rack_1:11:") == 1
    assert [handle.renew().turn for handle in handles if handle] == [True, False, False]
    assert [store.task(task_id).state for task_id in ids] == [S.INITIALIZING] * 3


def test_a_load_of_a_suspended_task_ends(store: Store, task_id: int) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    taken = store.claim_chunk(handle.add_chunk(**chunk()), "h:1:3:x")  # type: ignore[arg-type]
    assert taken is not None
    store.halt(task_id)
    with pytest.raises(KeyferryError, match="taken away"):
        taken.renew(1)


@pytest.mark.parametrize("name", [names.FOLLOW, names.LOAD])
def test_a_task_whose_job_was_revoked_rests(store: Store, task_id: int, name: str) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    row_id = handle.add_chunk(**chunk()) if name == names.LOAD else 1  # type: ignore[arg-type]
    for _ in range(2):
        store.revoked(name, row_id)
    assert store.task(task_id).state is S.SUSPENDED
    assert not handle.renew().wanted
    assert f"its {name} was revoked" in [event.text for event in store.events(task_id)]
    store.revoked(name, 99)
    store.fail(task_id, CUT)
    store.revoked(name, row_id)
    assert store.task(task_id).state is S.FAILED


def test_a_precheck_that_was_revoked_has_failed(store: Store) -> None:
    task_id = store.create_task(TaskSpec(), SOURCE, TARGET).id
    op = store.request(task_id, OpKind.PRECHECK, start=True)
    handle = store.claim_op(op.id, "h:1:2:x")
    assert handle is not None
    store.revoked(names.OPS, op.id)
    task = store.task(task_id)
    assert (task.state, (task.error or {})["code"], store.op(op.id).state) == (S.PRECHECK_FAILED, "revoked", "failed")
    with pytest.raises(Fenced):
        handle.done()
    store.revoked(names.OPS, op.id)
    assert store.task(task_id) == task
    again = store.claim_op(store.request(task_id, OpKind.PRECHECK).id, "h:1:2:x")
    assert again is not None
    again.done()
    store.revoked(names.OPS, again.op.id)
    assert store.task(task_id).state is S.PRECHECK_PASSED, "it was over"


def test_a_release_that_was_revoked_may_be_asked_for_again(store: Store, task_id: int) -> None:
    store.halt(task_id)
    op = store.request(task_id, OpKind.RELEASE)
    store.revoked(names.OPS, op.id)
    assert (store.task(task_id).state, store.events(task_id)[-1].kind) == (S.SUSPENDED, "revoked")
    assert store.request(task_id, OpKind.RELEASE).id != op.id


def test_a_transform_is_neither_given_to_nor_taken_from_a_task_to_a_cluster(store: Store) -> None:
    """Changed it may be: its streams see to it that all parts of the target do so at one place."""
    luas = ("function transform() end", "function transform() return end")
    script, other = (TaskSpec(transform=TransformSpec(lua=lua)) for lua in luas)
    for before, after in ((TaskSpec(), script), (script, TaskSpec())):
        task_id = store.create_task(before, SOURCE, TARGET).id
        put(store, task_id, S.SYNCHRONIZING)
        store.start(task_id)
        stream = store.claim_node(store.nodes(task_id)[0].id, "h:1:2:x")
        assert stream is not None
        stream.set_lanes(lanes_of([Shard(((0, 16383),), ("h", 1), (), "a")]))
        stream.begin_snapshot("r", 1, 0, None, None)
        with pytest.raises(UsageError, match="neither given to nor taken from") as caught:
            store.modify(task_id, after)
        assert caught.value.code == "transform"
        assert store.task(task_id).spec == before
        if before == script:
            assert store.modify(task_id, other).spec == other
