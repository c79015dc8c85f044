"""Operations: asked for by anybody, carried out by one worker, each once with effect."""

from __future__ import annotations

import inspect
from collections import Counter
from random import Random

import pytest

from sync_tasks import names
from sync_tasks.errors import (
    ConnectionLost,
    ControlError,
    CredentialsRefused,
    Fenced,
    KeyferryError,
    Side,
    SourceError,
    TargetError,
)
from sync_tasks.models import Chunk, Op, Task
from sync_tasks.spec import TaskSpec
from sync_tasks.states import MAY, OpKind, OpState, TaskState
from sync_tasks.store import Store
from sync_tasks.store.ops import MOST_ATTEMPTS, OpHandle
from sync_tasks.views import OpView
from tests.unit.control.conftest import SOURCE, TARGET, Outbox, Wall, chunk, started
from tests.unit.control.processes import in_processes
from tests.unit.control.test_lifecycle import put
from workers.ports import OpPort

S = TaskState
CUT = ConnectionLost("cut", side=Side.TARGET)
REFUSED = TargetError("it refuses", hint="let it", code="refused")


@pytest.fixture
def fresh(store: Store) -> int:
    """A task that was never started."""
    return store.create_task(TaskSpec(), SOURCE, TARGET).id


def claimed(store: Store, op: OpView, owner: str = "h:1:2:x") -> OpHandle:
    handle = store.claim_op(op.id, owner)
    assert handle is not None
    return handle


def loading(store: Store) -> tuple[int, int]:
    """Epoch of the stream job of node 1 that has begun a snapshot, and the id of its chunk."""
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    gen = handle.begin_snapshot("r", 1, 0, None, None)
    chunk_id = handle.add_chunk(**chunk(gen=gen))  # type: ignore[arg-type]
    handle.progress({"in_sync": True, "settled": True, "delay_ms": 1.0, "applied_offset": 9})
    return handle.epoch, chunk_id


def test_the_handle_is_what_workers_ask_for() -> None:
    asked = {name: value for name, value in vars(OpPort).items() if inspect.isfunction(value) and name[0] != "_"}
    assert asked
    for name, value in asked.items():
        mine = inspect.signature(getattr(OpHandle, name))
        assert list(mine.parameters) == list(inspect.signature(value).parameters), name


@pytest.mark.parametrize("kind", OpKind)
def test_every_state_allows_an_operation_or_says_why_not(store: Store, kind: OpKind) -> None:
    for state in TaskState:
        task_id = store.create_task(TaskSpec(), SOURCE, TARGET).id
        put(store, task_id, state)
        if state in MAY[kind] and (kind, state) != (OpKind.PRECHECK, S.NOT_CONFIGURED):
            op = store.request(task_id, kind)
            assert (op.kind, op.state, store.op(op.id), store.ops(task_id)) == (kind, OpState.READY, op, [op])
            continue
        with pytest.raises(ControlError, match=state.value) as caught:
            store.request(task_id, kind)
        assert (caught.value.code, bool(caught.value.hint)) == ("transition", True)
        assert (store.task(task_id).state, store.ops(task_id)) == (state, [])


def test_an_operation_or_a_task_that_is_not_there(store: Store) -> None:
    with pytest.raises(ControlError, match="no operation 9"):
        store.op(9)
    with pytest.raises(ControlError, match="no task 9"):
        store.request(9, OpKind.PRECHECK)
    assert store.claim_op(9, "h:1:2:x") is None


def test_asked_twice_it_is_one_that_does_both(store: Store, fresh: int) -> None:
    first = store.request(fresh, OpKind.PRECHECK)
    assert (store.task(fresh).state, first.options["start"]) == (S.PRECHECKING, False)
    second = store.request(fresh, OpKind.PRECHECK, start=True)
    third = store.request(fresh, OpKind.PRECHECK)
    assert first.id == second.id == third.id
    assert third.options["start"], "what somebody has asked for is not taken back"
    with pytest.raises(ControlError, match="precheck is not over") as caught:
        store.request(fresh, OpKind.RELEASE)
    assert caught.value.code == "busy"


def test_a_precheck_that_is_under_way_may_still_be_asked_to_start(store: Store, fresh: int) -> None:
    handle = claimed(store, store.request(fresh, OpKind.PRECHECK))
    store.request(fresh, OpKind.PRECHECK, start=True)
    handle.done()
    assert store.task(fresh).state is S.INITIALIZING


@pytest.mark.parametrize(("start", "state"), [(False, S.PRECHECK_PASSED), (True, S.INITIALIZING)])
def test_a_precheck_that_passes(store: Store, fresh: int, start: bool, state: TaskState) -> None:
    handle = claimed(store, store.request(fresh, OpKind.PRECHECK, start=start))
    handle.renew()
    handle.done()
    assert (store.task(fresh).state, store.nodes(fresh)[0].wanted) == (state, start)
    assert store.op(handle.op.id).state is OpState.DONE
    assert store.claim_op(handle.op.id, "h:1:2:y") is None


def test_a_precheck_that_fails_is_over_whatever_failed(store: Store, fresh: int) -> None:
    handle = claimed(store, store.request(fresh, OpKind.PRECHECK, start=True))
    handle.failed(ConnectionLost("refused", side=Side.SOURCE, hint="start it"))
    task = store.task(fresh)
    held = {"code": "connection", "side": "source", "message": "refused", "hint": "start it"}
    assert (task.state, task.error) == (S.PRECHECK_FAILED, held)
    assert (store.op(handle.op.id).state, store.op(handle.op.id).error) == (OpState.FAILED, held)
    assert not store.nodes(fresh)[0].wanted
    again = store.request(fresh, OpKind.PRECHECK)
    assert again.id != handle.op.id
    assert store.task(fresh).error is None


def test_of_many_workers_one_takes_it(store: Store, fresh: int) -> None:
    op = store.request(fresh, OpKind.PRECHECK)
    taken = in_processes(lambda number: store.claim_op(op.id, f"h:{number}:1:x") is not None)
    assert taken.count(True) == 1
    assert store.op(op.id).epoch == 1


def test_what_was_taken_away_changes_nothing(store: Store, fresh: int) -> None:
    op = store.request(fresh, OpKind.PRECHECK)
    first = claimed(store, op)
    with store.database.write() as session:
        row = session.get_one(Op, op.id)
        row.state, row.owner = OpState.READY, None
    with pytest.raises(Fenced):
        first.renew()
    second = claimed(store, op, first._owner)
    for late in (first.renew, first.done, lambda: first.failed(CUT), lambda: first.event("x", "y")):
        with pytest.raises(Fenced):
            late()
    assert (store.task(fresh).state, store.op(op.id).state) == (S.PRECHECKING, OpState.RUNNING)
    second.done()
    assert store.task(fresh).state is S.PRECHECK_PASSED


def test_a_restart_waits_until_streams_and_loaders_have_ended(store: Store, task_id: int) -> None:
    epoch, chunk_id = loading(store)
    load = store.claim_chunk(chunk_id, "h:1:3:x")
    assert load is not None
    op = store.request(task_id, OpKind.RESTART)
    assert store.task(task_id).state is S.SUSPENDED
    assert store.claim_op(op.id, "h:1:2:z") is None, "the stream is at work"
    store.release_node(1, epoch)
    assert store.claim_op(op.id, "h:1:2:z") is None, "a loader is at work"
    store.chunk_failed(chunk_id, load.chunk.epoch, CUT)
    claimed(store, op)


@pytest.mark.parametrize("failed", [False, True])
def test_a_restart_begins_from_nothing_under_another_name(store: Store, task_id: int, failed: bool) -> None:
    epoch, _ = loading(store)
    store.release_node(1, epoch)
    before = store.task(task_id)
    if failed:
        store.fail(task_id, KeyferryError("gone", code="cannot-continue", side=Side.SOURCE))
    else:
        store.finish(task_id)
    handle = claimed(store, store.request(task_id, OpKind.RESTART))
    handle.event("keys-removed", "7 keys")
    handle.done()
    task, (node,) = store.task(task_id), store.nodes(task_id)
    assert task.uid != before.uid
    assert (task.state, task.finishing, task.error) == (S.PRECHECKING, False, None)
    assert (node.gen, node.begun, node.applied_offset, node.epoch) == (0, False, None, epoch)
    assert (node.in_sync, node.settled, node.delay_ms) == (False, False, None)
    with store.database.read() as session:
        assert session.query(Chunk).count() == 0
    done, precheck = store.ops(task_id)
    assert (done.state, precheck.kind, precheck.state) == (OpState.DONE, OpKind.PRECHECK, OpState.READY)
    assert precheck.options == {"start": True, "force": False, "items": None}
    claimed(store, precheck).done()
    assert (store.task(task_id).state, store.nodes(task_id)[0].wanted) == (S.INITIALIZING, True)
    assert store.claim_node(1, "h:1:2:y") is not None


def test_a_release_forgets_what_is_secret_and_ends_the_task(store: Store, task_id: int) -> None:
    epoch, _ = loading(store)
    store.halt(task_id)
    store.release_node(1, epoch)
    claimed(store, store.request(task_id, OpKind.RELEASE)).done()
    assert store.task(task_id).state is S.RELEASED
    with store.database.read() as session:
        row = session.get_one(Task, task_id)
        assert (row.source, row.target) == (b"", b"")
        assert session.query(Chunk).count() == 0
    assert store.task(task_id).source == SOURCE.safe(), "who looks it up still sees what it was"


@pytest.mark.parametrize("kind", [OpKind.RESTART, OpKind.RELEASE])
def test_a_run_is_over_once_it_was_restarted_or_released(
    store: Store, task_id: int, outbox: Outbox, kind: OpKind
) -> None:
    uid = store.task(task_id).uid
    first = store.claim_node(1, "h:1:2:x", "aaaaaaaaaaaa")
    assert first is not None
    first.add_chunk(**chunk(gen=first.begin_snapshot("r", 1, 0, None, None)))  # type: ignore[arg-type]
    store.release_node(1, first.epoch)
    second = store.claim_node(1, "h:1:2:x", "bbbbbbbbbbbb")
    assert second is not None
    second.moved_in()
    store.release_node(1, second.epoch)
    store.suspend(task_id)
    op = store.request(task_id, kind)
    assert store.ended([uid]) == set()
    outbox.broken = True  # a message that is lost changes nothing
    claimed(store, op).done()
    assert store.ended([uid, "f" * 16]) == {uid}
    assert not [message for message in outbox.messages if message.name == names.SWEEP]


def test_a_sweep_goes_to_the_spool_and_carries_an_id(store: Store, task_id: int, outbox: Outbox) -> None:
    handle = store.claim_node(1, "h:1:2:x", "aaaaaaaaaaaa")
    assert handle is not None
    handle.moved_in()
    store.release_node(1, handle.epoch)
    store.suspend(task_id)
    op = store.request(task_id, OpKind.RELEASE)
    claimed(store, op).done()
    (told,) = [message for message in outbox.messages if message.name == names.SWEEP]
    assert (told.id, told.queue) == (op.id, "kf.load.aaaaaaaaaaaa")
    store.revoked(names.SWEEP, op.id)  # nothing to suspend


def test_what_runs_must_be_ended_before_it_is_released(store: Store, task_id: int) -> None:
    with pytest.raises(ControlError, match="cannot be released") as caught:
        store.request(task_id, OpKind.RELEASE)
    assert "suspend" in caught.value.hint


def test_a_failed_release_is_tried_again_and_at_last_given_up(store: Store, task_id: int, wall: Wall) -> None:
    store.halt(task_id)
    op = store.request(task_id, OpKind.RELEASE)
    for attempt in range(1, MOST_ATTEMPTS):
        claimed(store, op).failed(CUT)
        found = store.op(op.id)
        assert (found.state, found.attempts) == (OpState.READY, attempt)
        assert found.error is not None
        assert store.claim_op(op.id, "h:1:2:x") is None, "it waits first"
        wall.now += 31
    claimed(store, op).failed(CUT)
    task = store.task(task_id)
    assert (store.op(op.id).state, task.state) == (OpState.FAILED, S.SUSPENDED)
    assert (task.error or {})["message"] == "cut"
    assert store.events(task_id)[-1].kind == "release-failed"
    assert store.resume(task_id).error is None


def test_what_no_retry_heals_is_given_up_at_once(store: Store, task_id: int) -> None:
    store.halt(task_id)
    op = store.request(task_id, OpKind.RELEASE)
    claimed(store, op).failed(REFUSED)
    assert store.op(op.id).state is OpState.FAILED


@pytest.mark.parametrize("kind", [OpKind.RESTART, OpKind.RELEASE])
def test_wrong_credentials_are_told_at_once_to_who_asks(store: Store, task_id: int, kind: OpKind) -> None:
    store.halt(task_id)
    op = store.request(task_id, kind)
    handle = store.claim_op(op.id, "h:1:1:x")
    assert handle is not None
    handle.failed(CredentialsRefused("WRONGPASS", side=Side.TARGET))
    assert store.op(op.id).state is OpState.FAILED


def test_a_release_that_waits_may_be_forced(store: Store, task_id: int, wall: Wall) -> None:
    store.halt(task_id)
    op = store.request(task_id, OpKind.RELEASE)
    claimed(store, op).failed(CUT)
    assert store.request(task_id, OpKind.RELEASE, force=True).id == op.id
    wall.now += 31
    assert claimed(store, op).op.options["force"]


def test_a_failed_operation_does_not_hide_why_the_task_failed(store: Store, task_id: int) -> None:
    gone = SourceError("gone", code="cannot-continue")
    store.fail(task_id, gone)
    claimed(store, store.request(task_id, OpKind.RELEASE)).failed(REFUSED)
    assert (store.task(task_id).error or {})["code"] == "cannot-continue"
    with pytest.raises(ControlError, match="for good"):
        store.resume(task_id)


class Storm:
    """Operators and workers, all at once, at two tasks."""

    def __init__(self, store: Store, tasks: list[int], number: int) -> None:
        self.store, self.tasks, self.number = store, tasks, number
        self.rng = Random(number)
        self.met: Counter[str] = Counter()

    def blow(self) -> Counter[str]:
        parts = [self.ask, self.work, self.follow, self.rest]
        for _ in range(24):
            part = parts[self.number % len(parts)] if self.rng.random() < 0.5 else self.rng.choice(parts)
            try:
                part(self.rng.choice(self.tasks))
                self.met[part.__name__] += 1
            except Fenced:
                self.met["fenced"] += 1
            except ControlError as error:
                if error.code not in ("transition", "busy"):
                    raise
                self.met[error.code] += 1
        return self.met

    def ask(self, task_id: int) -> None:
        kind = self.rng.choice([OpKind.PRECHECK, OpKind.RESTART])
        self.store.request(task_id, kind, start=True, force=self.rng.random() < 0.5)

    def work(self, task_id: int) -> None:
        for op in self.store.ops(task_id)[-2:]:
            handle = self.store.claim_op(op.id, f"h:{self.number}:1:x")
            if handle is not None:
                self.met["taken"] += 1
                for _ in range(3):
                    handle.renew()
                    handle.event("at", "work")
                handle.done() if self.rng.random() < 0.9 else handle.failed(CUT)

    def follow(self, task_id: int) -> None:
        (node,) = self.store.nodes(task_id)
        handle = self.store.claim_node(node.id, f"h:{self.number}:1:x")
        if handle is None:
            return
        try:
            gen = handle.begin_snapshot("r", 1, 0, None, None)
            taken = self.store.claim_chunk(handle.add_chunk(**chunk(gen=gen)), "h:1:1:x")  # type: ignore[arg-type]
            handle.failing(CUT)
            if taken is not None:
                taken.done(10)
            handle.took_up()
        finally:
            self.store.release_node(node.id, handle.epoch)

    def rest(self, task_id: int) -> None:
        self.store.modify(task_id, TaskSpec(extend_expiry_s=self.rng.randrange(1000)))
        self.store.halt(task_id)
        self.store.drain("h:1")
        self.store.resume(task_id)


def test_nobody_waits_in_a_circle(store: Store) -> None:
    tasks = [started(store, store.create_task(TaskSpec(), SOURCE, TARGET).id) for _ in range(2)]
    storms = [Storm(store, tasks, number) for number in range(8)]
    met: Counter[str] = sum(in_processes(lambda number: storms[number].blow()), Counter())
    assert {"ask", "work", "follow", "busy"} <= set(met), met
    for task_id in tasks:
        still = [op for op in store.ops(task_id) if op.state in (OpState.READY, OpState.RUNNING)]
        assert len(still) <= 1, "one at a time"
