"""Verbs that workers carry out, against a worker that needs no servers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sync_tasks import Client, ControlError, KeyferryError, Side, SourceError, Task, TaskState, UsageError
from sync_tasks.errors import ConnectionLost, TargetError
from sync_tasks.precheck.item import Finding, Result
from sync_tasks.precheck.items import item_of
from sync_tasks.sharing import Shortest
from tests.unit.client.conftest import SOURCE, TARGET
from tests.unit.client.worker import Worker

S = TaskState
DOWN = ConnectionLost("source.example:7000 refuses", side=Side.SOURCE, hint="start it")
SOON = 0.3  # seconds, for what does not come
LATER = 1.5  # seconds in which a worker has done something, however busy the machine is


def made(client: Client, *names: str) -> list[Task]:
    return [client.create(SOURCE, TARGET, name=name) for name in names]


def running(client: Client, *names: str) -> list[Task]:
    """Tasks that follow their sources."""
    tasks = client.start(made(client, *names))
    deadline = time.monotonic() + 10
    while [task.state for task in client.list()].count(S.SYNCHRONIZING) < len(tasks):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return tasks


def kinds(client: Client, task: Task) -> list[str]:
    return [event.kind for event in client.events(task)]


def test_a_start_is_prechecked_and_returns_once_it_runs(client: Client, worker: Worker) -> None:
    (task,) = made(client, "a")
    running = client.start(task)
    assert running.state in (S.INITIALIZING, S.SYNCHRONIZING)
    assert client._store.owned(task.id)
    assert kinds(client, task)[:3] == ["created", "prechecking", "precheck-passed"]


def test_a_failed_precheck_is_raised_with_its_side(client: Client, worker: Worker) -> None:
    worker.wrong["a"] = DOWN
    (task,) = made(client, "a")
    with pytest.raises(SourceError) as caught:
        client.start(task)
    error = caught.value
    assert (error.code, error.side, error.exit_code) == ("connection", Side.SOURCE, 3)
    assert (error.message, error.hint) == ("source.example:7000 refuses", "start it")
    found = client.get(task)
    assert (found.state, found.error and found.error.code) == (S.PRECHECK_FAILED, "connection")
    worker.wrong.clear()
    assert client.start("a").error is None


EVICTS = Result("eviction", Finding.WARNING, "it evicts", "set noeviction")
CALM = Result("eviction", Finding.PASSED, "it does not")
LACKS = Result("modules", Finding.WARNING, "it lacks one", "load it")
FULL = Result.failed(item_of("target-empty"), TargetError("it holds keys", hint="empty it", code="target-not-empty"))


def states(client: Client, task: Task) -> dict[str, str]:
    return {item.id: item.state for item in client.precheck_items(task) if item.state}


def test_a_start_needs_every_warning_ignored(client: Client, worker: Worker) -> None:
    (task,) = made(client, "a")
    worker.results = [EVICTS, LACKS]
    found = client.precheck(task)
    assert (found.passed, found.error and found.error.code) == (False, "precheck-warning")
    assert found.error is not None
    assert "--item eviction --item modules" in found.error.hint
    with pytest.raises(ControlError, match="eviction: it evicts; modules: it lacks one"):
        client.start(task)
    client.ignore(task, ["modules"])
    assert client.get(task).state is S.PRECHECK_FAILED
    with pytest.raises(ControlError, match=r"^eviction: it evicts$"):
        client.start(task)
    assert client.ignore(task, ["eviction"]).state is S.PRECHECK_PASSED
    assert client.start(task).state in (S.INITIALIZING, S.SYNCHRONIZING)
    texts = [event.text for event in client.events(task) if event.kind in ("warning", "ignored")]
    assert texts.count("eviction: it evicts: set noeviction") == 4, "once by each precheck"
    assert [text.partition(":")[0] for text in texts if "in spite of" in text] == ["modules", "eviction"]


def test_what_will_be_found_can_be_ignored_before(client: Client, worker: Worker) -> None:
    (task,) = made(client, "a")
    client.ignore(task, ["eviction"])
    assert states(client, task) == {}
    worker.results = [EVICTS]
    assert client.precheck(task).passed
    (item,) = [item for item in client.precheck_items(task) if item.state]
    assert (item.ignorable, item.ignored, item.stands_against) == (True, True, False)
    assert item.title
    assert item.why


def test_what_has_failed_cannot_be_ignored(client: Client, worker: Worker) -> None:
    (task,) = made(client, "a")
    with pytest.raises(UsageError, match="cannot be ignored"):
        client.ignore(task, ["target-empty"])  # nor before it is asked
    worker.results = [EVICTS, FULL]
    with pytest.raises(TargetError, match="it holds keys"):
        client.start(task)
    assert states(client, task) == {"eviction": "warning", "target-empty": "failed"}
    for names, said in ((["eviction", "target-empty"], "cannot be ignored"), (["evictions"], "no precheck item")):
        with pytest.raises(UsageError, match=said):
            client.ignore(task, names)
    assert not any(item.ignored for item in client.precheck_items(task))
    client.ignore(task, ["eviction"])
    assert client.get(task).state is S.PRECHECK_FAILED


def test_items_are_asked_again_one_by_one(client: Client, worker: Worker) -> None:
    (task,) = made(client, "a")
    worker.results = [EVICTS, LACKS]
    client.precheck(task)
    worker.results = [CALM]
    again = client.precheck(task, items=["eviction"])
    assert [op.options["items"] for op in client._store.ops(task.id)] == [None, ["eviction"]]
    assert (again.passed, states(client, task)) == (False, {"eviction": "passed", "modules": "warning"})
    with pytest.raises(UsageError, match="no precheck item modul") as caught:
        client.precheck(task, items=["modul"])
    assert caught.value.hint == "did you mean modules?"
    client.ignore(task, ["modules"])
    assert client.get(task).state is S.PRECHECK_PASSED


def test_a_task_that_has_begun_has_nothing_to_ignore(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    with pytest.raises(ControlError, match="synchronizing"):
        client.ignore(task, ["eviction"])


def test_usage_errors_of_a_precheck_keep_their_class_too(client: Client, worker: Worker) -> None:
    worker.wrong["a"] = UsageError("both are one server", code="same-server")
    made(client, "a")
    with pytest.raises(UsageError, match="one server") as caught:
        client.start("a")
    assert caught.value.code == "same-server"


def test_without_a_worker_it_says_so_and_stays_asked_for(client: Client, state: Path) -> None:
    (task,) = made(client, "a")
    with pytest.raises(ControlError, match="no worker has taken its precheck") as caught:
        client.start(task, wait_s=SOON)
    assert caught.value.code == "no-worker"
    assert "keyferry up" in caught.value.hint
    with Worker(state):
        assert client.start(task).state in (S.INITIALIZING, S.SYNCHRONIZING)
    assert kinds(client, task).count("prechecking") == 1


def test_a_worker_that_takes_its_time_is_not_called_missing(client: Client, worker: Worker) -> None:
    worker.idle = True
    (task,) = made(client, "a")
    with pytest.raises(ControlError, match="its precheck is not over") as caught:
        client.start(task, wait_s=LATER)
    assert caught.value.code == "timeout"


def test_not_to_wait_is_to_ask_alone(client: Client) -> None:
    (task,) = made(client, "a")
    assert client.start(task, wait_s=0).state is S.PRECHECKING
    assert client.precheck(task, wait_s=0).passed is None


def test_what_runs_is_left_alone_by_a_start(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    before = client.events(task)
    client.start(task)
    client.resume(task)
    assert client.events(task) == before


def test_a_suspended_task_has_no_stream_and_goes_on_with_a_start(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    assert client.suspend(task, receive=False).state is S.SUSPENDED
    assert not client._store.owned(task.id)
    (before,) = client.progress(task).nodes
    assert client.start(task).state is S.SYNCHRONIZING
    (after,) = client.progress(task).nodes
    assert after.epoch > before.epoch, "it returned when a worker had it"
    assert kinds(client, task).count("precheck-passed") == 1


def test_a_suspended_task_is_received_all_the_same_unless_it_is_to_stop(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    assert client.suspend(task).state is S.SUSPENDED
    (node,) = client.progress(task).nodes
    assert (node.receiving, node.receive_bytes) == (True, 1 << 30)
    assert client._store.owned(task.id)
    assert not client._store.at_work(task.id)
    client.suspend(task, limit_bytes=5 << 20)
    assert client.progress(task).nodes[0].receive_bytes == 5 << 20
    client.suspend(task, receive=False)
    assert not client._store.owned(task.id)
    assert not client.progress(task).nodes[0].receiving
    client.suspend(task)
    deadline = time.monotonic() + 10
    while not client._store.owned(task.id):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    client.suspend(task)
    (before,) = client.progress(task).nodes
    assert client.resume(task).state is S.SYNCHRONIZING
    (after,) = client.progress(task).nodes
    assert (after.receiving, after.receive_bytes) == (False, None)
    assert after.epoch > before.epoch, "it returned when a worker had heard of it"
    assert client._store.at_work(task.id)


def test_a_stream_that_does_not_come_to_rest_is_told(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    worker.stuck = True
    with pytest.raises(ControlError, match="not reached a checkpoint") as caught:
        client.suspend(task, wait_s=SOON)
    assert caught.value.code == "timeout"
    worker.stuck = False
    client.suspend(task)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"limit_bytes": 1}, "out of range"), ({"limit_bytes": 1 << 51}, "out of range"),
     ({"limit_bytes": 1 << 20, "receive": False}, "no limit")],
)  # fmt: skip
def test_a_limit_that_is_none(client: Client, options: dict[str, int], told: str) -> None:
    made(client, "a")
    with pytest.raises(UsageError, match=told):
        client.suspend("a", **options)  # type: ignore[arg-type]
    assert kinds(client, client.get("a")) == ["created"]


def test_a_stream_that_does_not_end_is_told(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    worker.stuck = True
    with pytest.raises(ControlError, match="not reached a checkpoint") as caught:
        client.suspend(task, wait_s=SOON)
    assert caught.value.code == "timeout"
    with pytest.raises(ControlError, match="its restart is not over"):
        client.restart(task, wait_s=SOON)
    worker.stuck = False
    client.restart(task)


def test_a_resumption_needs_somebody_who_follows(client: Client, state: Path) -> None:
    with Worker(state):
        (task,) = running(client, "a")
        client.suspend(task, receive=False)
    with Worker(state, streams=False):
        with pytest.raises(ControlError, match="no worker has taken its stream"):
            client.resume(task, wait_s=SOON)
        client.suspend(task)
        with pytest.raises(ControlError, match="no worker has taken its stream") as caught:
            client.start(made(client, "b"), wait_s=LATER)
    assert caught.value.code == "no-worker", "its precheck alone is not enough"


def test_what_failed_goes_on_or_says_why_not(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    client._store.fail(task.id, DOWN)
    assert client.start(task).state is S.SYNCHRONIZING
    client._store.fail(task.id, KeyferryError("backlog gone", code="cannot-continue", side=Side.SOURCE))
    with pytest.raises(ControlError, match="for good") as caught:
        client.start(task)
    assert (caught.value.side, "restart" in caught.value.hint) == (Side.SOURCE, True)
    assert client.restart(task).state in (S.INITIALIZING, S.SYNCHRONIZING)


def test_prechecks_are_returned_whatever_they_find(client: Client, worker: Worker) -> None:
    tasks = made(client, "a", "b")
    worker.wrong["b"] = DOWN
    passed, failed = client.precheck(tasks)
    assert (passed.task.state, passed.passed, passed.error) == (S.PRECHECK_PASSED, True, None)
    assert (failed.task.state, failed.passed) == (S.PRECHECK_FAILED, False)
    assert failed.error is not None
    assert failed.error.side is Side.SOURCE
    assert client.precheck("a").passed
    client.start("a")
    with pytest.raises(ControlError, match="cannot be prechecked"):
        client.precheck("a")


def test_a_restart_begins_under_another_name(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    again = client.restart(task)
    assert again.uid != task.uid
    assert again.state in (S.INITIALIZING, S.SYNCHRONIZING)


def test_of_a_restart_the_precheck_counts_too(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    worker.wrong["precheck"] = DOWN
    with pytest.raises(SourceError, match="refuses"):
        client.restart(task)
    assert client.get(task).state is S.PRECHECK_FAILED
    worker.wrong.clear()
    assert client.start(task).state in (S.INITIALIZING, S.SYNCHRONIZING)


def test_a_cut_over_is_waited_for(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    assert client.finish(task).state is S.FINISHED
    assert client.finish(task).state is S.FINISHED
    with pytest.raises(ControlError, match="a task that is finished cannot be"):
        client.start(task)


def test_a_cut_over_that_is_broken_off_says_by_what(client: Client, state: Path) -> None:
    with Worker(state):
        (task,) = running(client, "a")
        client.suspend(task, receive=False)
    with pytest.raises(ControlError, match="no worker has taken its finish") as caught:
        client.finish(task, wait_s=SOON)
    assert client.get(task).finishing
    client.suspend(task)
    with pytest.raises(ControlError, match="suspended before") as caught:
        _finish_again(client, task, lambda: client.suspend(task))
    assert caught.value.code == "suspended"
    with pytest.raises(SourceError, match="refuses"):
        _finish_again(client, task, lambda: client._store.fail(task.id, DOWN))


def _finish_again(client: Client, task: Task, meanwhile) -> None:  # type: ignore[no-untyped-def]
    import threading

    timer = threading.Timer(SOON, meanwhile)
    timer.start()
    try:
        client.finish(task, wait_s=10)
    finally:
        timer.join()


def test_a_release_ends_it_and_may_be_asked_for_again(client: Client, worker: Worker) -> None:
    (task,) = made(client, "a")
    assert client.release(task).state is S.RELEASED
    assert client.release(task).state is S.RELEASED
    running(client, "b")
    with pytest.raises(ControlError, match="cannot be released") as caught:
        client.release("b")
    assert "suspend" in caught.value.hint


def test_a_release_that_fails_says_by_what_and_may_be_forced(client: Client, worker: Worker) -> None:
    worker.wrong["a"] = KeyferryError("the target refuses", side=Side.TARGET)
    (task,) = made(client, "a")
    with pytest.raises(KeyferryError, match="the target refuses"):
        client.release(task)
    worker.wrong["a"] = ConnectionLost("target away", side=Side.TARGET)
    with pytest.raises(ControlError, match=r"its release has failed \d+ times \(target away\)") as caught:
        client.release(task, wait_s=LATER)
    assert caught.value.code == "timeout"
    worker.wrong.clear()
    assert client.release(task, force=True).state is S.RELEASED
    assert client._store.ops(task.id)[-1].options["force"]


def test_of_several_all_are_done_in_their_order(client: Client, worker: Worker) -> None:
    tasks = running(client, "a", "b", "c")
    assert [task.name for task in client.start(reversed(tasks))] == ["c", "b", "a"]
    assert [task.id for task in client.suspend(["a", 2, tasks[2]])] == [1, 2, 3]
    assert [task.state for task in client.start(task for task in client.list())] == [S.SYNCHRONIZING] * 3
    assert client.finish([]) == []


def test_an_error_of_one_keeps_no_other_from_its_turn(client: Client, worker: Worker) -> None:
    worker.wrong["b"] = DOWN
    made(client, "a", "b", "c")
    with pytest.raises(SourceError) as caught:
        client.start(["b", "nobody", "a", "c"])
    error = caught.value
    assert error.message == "b: source.example:7000 refuses; nobody: there is no task nobody"
    assert str(error) == error.message
    assert (error.side, error.hint) == (Side.SOURCE, "start it")
    assert {client.get(name).state for name in "ac"} <= {S.INITIALIZING, S.SYNCHRONIZING}


def test_several_are_waited_for_together(client: Client) -> None:
    tasks = made(client, "a", "b", "c")
    began = time.monotonic()
    with pytest.raises(ControlError) as caught:
        client.start(tasks, wait_s=1)
    assert time.monotonic() - began < 2.5, "a second for all, not for each"
    assert caught.value.message.count("no worker has taken its precheck") == 3


def test_new_settings_of_a_running_task_are_taken_up(client: Client, worker: Worker) -> None:
    (task,) = running(client, "a")
    assert client.modify(task, extend_expiry_s=1).settings.extend_expiry_s == 1
    deadline = time.monotonic() + 10
    while client.get(task).state is not S.SYNCHRONIZING:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "modified" in kinds(client, task)


def test_a_task_shows_the_window_that_holds_and_whose_it_is(client: Client, worker: Worker) -> None:
    one = client.create(SOURCE, TARGET, name="one")
    brief = client.create(SOURCE, "redis://elsewhere", name="brief", retry={"connection_min": 30})
    assert one.connection_window == Shortest(720)
    client.start([one, brief])
    assert client.get(one).connection_window == Shortest(30, brief.id, "brief")
    assert client.get(one).settings.retry.connection_min == 720
    assert client.list()[0].connection_window.by == client.get(one).as_dict()["connection_window"]["by"] == brief.id
    assert client.modify(brief, retry={"connection_min": 45}).connection_window == Shortest(45)
    assert client.get(one).connection_window.minutes == 45
    assert {reading.task.name: reading.task.shared for reading in client.readings()} == {
        "one": Shortest(45, brief.id, "brief"),
        "brief": Shortest(45),
    }
    client.suspend(brief)
    assert client.get(one).connection_window == Shortest(720)
