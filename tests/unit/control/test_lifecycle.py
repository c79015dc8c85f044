"""States change by the table alone, each with its event."""

from __future__ import annotations

import itertools

import pytest

from sync_tasks.errors import ConnectionLost, ControlError, Side, SpoolFull, TargetError
from sync_tasks.models import Task
from sync_tasks.spec import TaskSpec
from sync_tasks.states import RUNNING, TRANSITIONS, TaskState
from sync_tasks.store import Store
from tests.unit.control.conftest import SOURCE, TARGET


def put(store: Store, task_id: int, state: TaskState) -> None:
    with store.database.write() as session:
        session.get_one(Task, task_id).state = state


def test_every_pair_of_states(store: Store) -> None:
    task_id = store.create_task(TaskSpec(), SOURCE, TARGET).id
    for here, there in itertools.product(TaskState, TaskState):
        put(store, task_id, here)
        before = len(store.events(task_id))
        if here == there:
            store.transition(task_id, there, "again")
            assert len(store.events(task_id)) == before, "nothing happened, nothing is recorded"
        elif there in TRANSITIONS[here]:
            store.transition(task_id, there, "because")
            assert store.task(task_id).state is there
            assert (store.events(task_id)[-1].kind, store.events(task_id)[-1].text) == (
                there.value,
                "because",
            )
        else:
            with pytest.raises(ControlError, match=f"{here.value} cannot become {there.value}"):
                store.transition(task_id, there, "no")
            assert store.task(task_id).state is here
            assert len(store.events(task_id)) == before


def test_failing_records_the_first_error_and_stops_the_streams(store: Store, task_id: int) -> None:
    store.fail(task_id, TargetError("it broke", hint="mend it", code="broken"))
    store.fail(task_id, TargetError("and again"))
    task = store.task(task_id)
    assert task.state is TaskState.FAILED
    assert task.error == {"code": "broken", "side": "target", "message": "it broke", "hint": "mend it"}
    assert [event.kind for event in store.events(task_id)].count("failed") == 1
    assert not any(node.wanted for node in store.nodes(task_id))


def test_a_task_that_never_ran_keeps_its_state_and_shows_the_error(store: Store) -> None:
    task_id = store.create_task(TaskSpec(), SOURCE, TARGET).id
    store.fail(task_id, TargetError("it broke"))
    assert store.task(task_id).state is TaskState.NOT_STARTED
    assert store.task(task_id).error is not None


def test_a_start_forgets_the_error_and_goes_on_where_it_was(store: Store, task_id: int) -> None:
    store.fail(task_id, TargetError("it broke"))
    store.start(task_id)
    assert store.task(task_id).state is TaskState.INITIALIZING
    assert store.task(task_id).error is None
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_stream()
    store.transition(task_id, TaskState.SUSPENDED, "test")
    store.start(task_id)
    assert store.task(task_id).state is TaskState.SYNCHRONIZING


@pytest.mark.parametrize("state", [TaskState.FINISHED, TaskState.RELEASED])
def test_an_ended_task_never_starts(store: Store, task_id: int, state: TaskState) -> None:
    put(store, task_id, state)
    with pytest.raises(ControlError, match=state.value):
        store.start(task_id)


@pytest.mark.parametrize("state", [TaskState.SUSPENDED, TaskState.FAILED, TaskState.FINISHED])
def test_windows_end_with_the_run(store: Store, task_id: int, state: TaskState) -> None:
    assert state not in RUNNING
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.failing(ConnectionLost("cut", side=Side.SOURCE))
    assert store.retries(task_id)
    store.transition(task_id, state, "test")
    assert store.retries(task_id) == []


def test_a_full_disk_is_shown_while_it_waits(store: Store, task_id: int) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.failing(SpoolFull("no space", hint="free some"))
    task = store.task(task_id)
    assert task.state is TaskState.RETRYING
    assert task.error is not None
    assert task.error["code"] == "disk-full"
    handle.healed(Side.CONTROL)
    assert store.task(task_id).error is None
    assert store.task(task_id).state is TaskState.INITIALIZING
