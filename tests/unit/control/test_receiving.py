"""Streams of suspended tasks that are received all the same: what is asked for, by whom it is done, how it ends."""

from __future__ import annotations

from random import Random

import pytest

from sync_tasks.errors import CannotContinue, ConnectionLost, Fenced, KeyferryError, Side
from sync_tasks.models import Node
from sync_tasks.retry_policy import LONGEST_S
from sync_tasks.spec import TaskSpec
from sync_tasks.states import OpKind, TaskState
from sync_tasks.store import Store
from sync_tasks.store.receiving import Patience
from sync_tasks.store.stream import StreamHandle
from sync_tasks.views import EventView, NodeView, Orders
from tests.unit.control.conftest import SOURCE, TARGET, chunk

S = TaskState
LIMIT = 5_000_000_000  # more than 32 bits hold
CUT = ConnectionLost("cut", side=Side.SOURCE)
REFUSED = KeyferryError("no such command", side=Side.SOURCE)
GONE = CannotContinue("the backlog is gone", side=Side.SOURCE)


@pytest.fixture
def handle(store: Store, task_id: int) -> StreamHandle:
    """A stream that has begun."""
    claimed = store.claim_node(1, "h:1:2:x")
    assert claimed is not None
    gen = claimed.begin_snapshot("r", 1, 0, None, None)
    claimed.end_snapshot(gen, 0, 0)
    claimed.begin_stream()
    claimed.raise_epoch(claimed.epoch)
    return claimed


@pytest.fixture
def resting(store: Store, task_id: int, handle: StreamHandle) -> StreamHandle:
    """The same, once it does no more than receive."""
    store.halt(task_id, receive_bytes=LIMIT)
    handle.renew()
    handle.rests()
    return handle


def node(store: Store, task_id: int) -> NodeView:
    (only,) = store.nodes(task_id)
    return only


def last(store: Store, task_id: int) -> EventView:
    return store.events(task_id)[-1]


def test_who_applies_is_told_and_says_when_it_rests(store: Store, task_id: int, handle: StreamHandle) -> None:
    assert store.halt(task_id, "the target moves", LIMIT).state is S.SUSPENDED
    assert last(store, task_id).text == "the target moves; its stream is received to disk, up to 4.7 GiB"
    assert handle.renew() == Orders(wanted=True, receive_bytes=LIMIT)
    assert store.at_work(task_id)
    handle.rests()
    assert handle.renew() == Orders(wanted=True, receive_bytes=LIMIT, resting=True)
    assert store.owned(task_id)
    assert not store.at_work(task_id)
    assert (node(store, task_id).receiving, node(store, task_id).resting) == (True, True)


def test_to_ask_again_changes_nothing(store: Store, task_id: int, resting: StreamHandle) -> None:
    before = (store.nodes(task_id), store.events(task_id))
    store.halt(task_id, receive_bytes=LIMIT)
    assert (store.nodes(task_id), store.events(task_id)) == before


def test_another_limit_is_taken_up_by_who_rests(store: Store, task_id: int, resting: StreamHandle) -> None:
    store.halt(task_id, receive_bytes=2 << 20)
    assert resting.renew() == Orders(wanted=True, receive_bytes=2 << 20, resting=True)
    assert last(store, task_id).text == "its stream is received to disk, up to 2.0 MiB"


def test_it_may_be_stopped_and_received_again(store: Store, task_id: int, resting: StreamHandle) -> None:
    store.halt(task_id)
    assert last(store, task_id).text == "asked; its stream is received no more"
    assert resting.renew() == Orders(wanted=False)
    assert store.at_work(task_id), "until it has ended"
    before = store.events(task_id)
    store.halt(task_id)
    assert store.events(task_id) == before
    store.release_node(1, resting.epoch)
    store.halt(task_id, receive_bytes=LIMIT)
    assert store.task(task_id).state is S.SUSPENDED
    again = store.claim_node(1, "h:1:2:y")
    assert again is not None
    assert again.renew() == Orders(wanted=True, receive_bytes=LIMIT)


def test_a_task_that_loads_stops(store: Store, task_id: int) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    handle.add_chunk(**chunk())  # type: ignore[arg-type]
    store.halt(task_id, receive_bytes=LIMIT)
    assert handle.renew() == Orders(wanted=False)
    assert last(store, task_id).text == "asked"
    store.halt(task_id, receive_bytes=LIMIT)
    assert last(store, task_id).text == "asked"


def test_an_owner_that_dies_is_replaced_and_the_next_one_rests_too(
    store: Store, task_id: int, resting: StreamHandle
) -> None:
    store.release_owner("h:1")
    assert not node(store, task_id).resting
    following = store.claim_node(1, "h:1:2:y")
    assert following is not None
    assert following.renew() == Orders(wanted=True, receive_bytes=LIMIT)
    with pytest.raises(Fenced):
        resting.rests()
    following.rests()
    store.release_node(1, following.epoch)
    assert not node(store, task_id).resting


def test_a_shift_hands_over_to_another(store: Store, task_id: int, resting: StreamHandle) -> None:
    assert store.drain("h:1") == 1
    assert resting.renew().turn
    store.release_node(1, resting.epoch)
    following = store.claim_node(1, "h:1:2:y")
    assert following is not None
    assert (following.renew().turn, following.renew().receive_bytes) == (False, LIMIT)


def test_a_resumption_leaves_the_lease_to_who_rests(store: Store, task_id: int, resting: StreamHandle) -> None:
    store.modify(task_id, TaskSpec(extend_expiry_s=7))
    assert store.task(task_id).state is S.SUSPENDED
    assert store.resume(task_id).state is S.SYNCHRONIZING
    assert resting.renew() == Orders(wanted=True)
    assert (node(store, task_id).fresh, node(store, task_id).resting) == (True, False)
    assert resting.task.spec.extend_expiry_s == 600
    resting.reread()
    assert resting.task.spec.extend_expiry_s == 7
    resting.rests()
    assert not node(store, task_id).resting, "it was asked before that"


def test_a_resumption_takes_the_lease_from_who_may_not_have_heard(
    store: Store, task_id: int, handle: StreamHandle
) -> None:
    store.halt(task_id, receive_bytes=LIMIT)
    store.resume(task_id)
    with pytest.raises(Fenced):
        handle.renew()


def test_a_cut_over_goes_on_from_what_is_received(store: Store, task_id: int, resting: StreamHandle) -> None:
    assert store.finish(task_id).state is S.SYNCHRONIZING
    assert resting.renew() == Orders(wanted=True, finishing=True)


@pytest.mark.parametrize("kind", [OpKind.RESTART, OpKind.RELEASE])
def test_an_operation_ends_the_receiving_first(store: Store, task_id: int, resting: StreamHandle, kind: OpKind) -> None:
    op = store.request(task_id, kind)
    assert resting.renew() == Orders(wanted=False)
    assert store.claim_op(op.id, "h:1:3:x") is None, "its stream has not ended"
    store.release_node(1, resting.epoch)
    assert store.claim_op(op.id, "h:1:3:x") is not None


def test_a_revoked_one_is_not_sent_again(store: Store, task_id: int, resting: StreamHandle) -> None:
    store.revoked("stream.follow", 1)
    assert resting.renew() == Orders(wanted=False)
    assert store.task(task_id).state is S.SUSPENDED


def test_at_the_limit_it_ends_once(store: Store, task_id: int, resting: StreamHandle) -> None:
    resting.progress({"received_offset": LIMIT + 9, "applied_offset": 7})
    resting.receive_no_more("enough")
    assert (last(store, task_id).kind, last(store, task_id).text) == ("receiving", "node 0: enough")
    assert not resting.renew().wanted
    store.release_node(1, resting.epoch)
    assert store.claim_node(1, "h:1:2:y") is None
    assert node(store, task_id).on_disk_bytes == LIMIT + 2
    before = (store.nodes(task_id), store.events(task_id))
    store.halt(task_id, receive_bytes=LIMIT)
    assert (store.nodes(task_id), store.events(task_id)) == before
    store.halt(task_id, receive_bytes=2 * LIMIT)
    assert node(store, task_id).receiving, "there is room again"
    assert store.resume(task_id).state is S.SYNCHRONIZING


def test_an_end_that_comes_late_ends_nothing(store: Store, task_id: int, resting: StreamHandle) -> None:
    store.resume(task_id)
    before = store.events(task_id)
    resting.receive_no_more("enough")
    assert resting.renew().wanted
    assert store.events(task_id) == before


def test_a_failing_source_opens_no_window_and_fails_nothing(store: Store, task_id: int, resting: StreamHandle) -> None:
    pauses = [resting.failing(error) for error in (CUT, REFUSED, CUT, CUT, CUT, CUT, CUT, CUT, CUT, CUT, CUT)]
    assert pauses[-1] > LONGEST_S / 4 > pauses[0]
    assert store.retries(task_id) == []
    assert store.task(task_id).state is S.SUSPENDED
    assert last(store, task_id).text == "source: cut: retried for as long as the task is suspended"
    assert store.claim_node(1, "h:1:2:y") is None
    resting.healed("source")
    assert last(store, task_id).text == "source: works again after 11 failures"
    assert resting.failing(CUT) < 1
    store.resume(task_id)
    resting.renew()
    resting.failing(CUT)
    assert len(store.retries(task_id)) == 1
    with pytest.raises(KeyferryError, match="no such command"):
        resting.failing(REFUSED)


def test_a_fatal_failure_that_comes_with_a_resumption_is_fatal(
    store: Store, task_id: int, resting: StreamHandle
) -> None:
    store.resume(task_id)
    with pytest.raises(KeyferryError, match="no such command"):
        resting.failing(REFUSED)


def test_who_has_just_claimed_is_patient(store: Store, task_id: int, resting: StreamHandle) -> None:
    store.release_node(1, resting.epoch)
    following = store.claim_node(1, "h:1:2:y")
    assert following is not None
    following.failing(REFUSED)


def test_a_place_that_is_lost_ends_the_receiving_alone(store: Store, task_id: int, resting: StreamHandle) -> None:
    resting.fail(GONE)
    task = store.task(task_id)
    assert (task.state, task.error) == (S.SUSPENDED, None)
    assert last(store, task_id).text == "node 0: its stream is received no more: source: the backlog is gone"
    assert not node(store, task_id).receiving
    store.resume(task_id)
    resting.fail(GONE)
    assert store.task(task_id).state is S.FAILED
    assert not node(store, task_id).resting


def test_what_is_received_shortens_no_window_of_others(store: Store, task_id: int, resting: StreamHandle) -> None:
    other = store.create_task(TaskSpec(), SOURCE, TARGET).id
    store.transition(other, S.PRECHECKING, "test")
    store.transition(other, S.PRECHECK_PASSED, "test")
    store.start(other)
    store.modify(task_id, TaskSpec.model_validate({"retry": {"connection_min": 30}}))
    shared = store.task(other).shared
    assert shared is not None
    assert (shared.minutes, shared.by) == (720, None)


def test_a_snapshot_is_not_begun(store: Store, task_id: int, resting: StreamHandle) -> None:
    with pytest.raises(Fenced, match="the task is suspended"):
        resting.begin_snapshot("s", 1, 0, None, None)


def test_a_pause_of_the_target_does_not_keep_the_source_waiting(
    store: Store, task_id: int, handle: StreamHandle
) -> None:
    handle.failing(ConnectionLost("cut", side=Side.TARGET))
    store.release_node(1, handle.epoch)
    assert store.claim_node(1, "h:1:2:y") is None
    store.halt(task_id, receive_bytes=LIMIT)
    assert store.claim_node(1, "h:1:2:y") is not None


def test_a_node_that_was_cut_over_is_received_no_more(store: Store, task_id: int, handle: StreamHandle) -> None:
    with store.database.write() as session:
        session.get_one(Node, 1).finished = True
    store.halt(task_id, receive_bytes=LIMIT)
    assert not handle.renew().wanted


def test_patience_counts_each_side_for_itself(store: Store, task_id: int) -> None:
    patience = Patience(True, Random(1))
    with store._task(task_id) as (session, task):
        for _ in range(3):
            patience.failed(session, task, CUT)
        patience.healed(session, task, Side.TARGET)
        patience.healed(session, task, Side.SOURCE)
        patience.healed(session, task, Side.SOURCE)
    assert [event.kind for event in store.events(task_id)][-2:] == ["retry", "healed"]
