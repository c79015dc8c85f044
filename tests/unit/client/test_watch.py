"""Looking on: progress and events."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

import pytest

from sync_tasks import Client, ControlError, Progress, Retry, Task, TaskState
from sync_tasks.cli.json_lines import line
from sync_tasks.errors import ConnectionLost, Side, TargetError
from sync_tasks.progress import Problem
from sync_tasks.states import TaskState as S
from tests.unit.cli.samples import reading
from tests.unit.client.conftest import SOURCE, TARGET
from tests.unit.client.worker import Worker


@pytest.fixture
def task(client: Client) -> Task:
    return client.create(SOURCE, TARGET, name="a")


def test_progress_has_the_fields_of_sync_json() -> None:
    found = Progress.of(reading())
    assert found.as_dict() == line(reading())
    assert [field.name for field in fields(Progress)] == list(line(reading()))
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()
    assert found.phase is TaskState.SYNCHRONIZING
    assert (found.source_offset, found.nodes[0].source_offset, found.delay_ms) == (300, 300, 12.5)


def test_what_is_not_known_is_none(client: Client, task: Task) -> None:
    found = client.progress(task)
    assert (found.phase, found.source_offset, found.delay_ms, found.keys_total) == (S.NOT_STARTED, None, None, None)
    assert (found.retry, found.error, found.keys_done) == (None, None, 0)


def test_an_open_retry_window_and_its_error_are_seen(client: Client, task: Task) -> None:
    store = client._store
    store.transition(task.id, S.PRECHECKING, "test")
    store.transition(task.id, S.PRECHECK_PASSED, "test")
    store.start(task.id)
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.failing(ConnectionLost("refused", side=Side.TARGET))
    retry = client.progress("a").retry
    assert retry is not None
    assert (retry.kind, retry.side, retry.attempts) == ("connection", "target", 1)
    assert 719 * 60 < retry.seconds_left <= 720 * 60


def test_a_problem_is_an_error_again() -> None:
    error = TargetError("it broke", hint="mend it", code="broken")
    again = Problem.of(error).exception()
    assert type(again) is TargetError
    assert asdict(Problem.of(again)) == asdict(Problem.of(error))
    assert Problem.held(None) is None
    for row in ({"side": "?", "message": "m"}, {"message": "m"}):
        strange = Problem.held(row)
        assert strange is not None
        assert (strange.side, strange.code, strange.hint) == (Side.CONTROL, "failed", "")


def test_watching_ends_with_the_task(client: Client, worker: Worker, task: Task) -> None:
    client.start(task)
    seen = []
    for progress in client.watch(task, every_s=0.01):
        seen.append(progress)
        if len(seen) == 2:
            client.finish("a", wait_s=0)
    assert len(seen) > 2
    assert seen[-1].phase is S.FINISHED
    assert S.FINISHED not in [progress.phase for progress in seen[:-1]]
    assert [progress.phase for progress in client.watch("a")] == [S.FINISHED]


def test_watching_ends_with_a_failure_and_shows_it(client: Client, task: Task) -> None:
    client._store.transition(task.id, S.PRECHECKING, "test")
    client._store.transition(task.id, S.PRECHECK_FAILED, "test", TargetError("not empty", code="target-not-empty"))
    (last,) = client.watch("a")
    assert last.error is not None
    assert (last.error.code, last.error.side) == ("target-not-empty", Side.TARGET)


def test_who_stops_watching_changes_nothing(client: Client, task: Task) -> None:
    for progress in client.watch("a"):
        assert progress.phase is S.NOT_STARTED
        break
    watching = client.watch("a", every_s=0)
    next(watching)
    with pytest.raises(KeyboardInterrupt):
        watching.throw(KeyboardInterrupt)
    assert [event.kind for event in client.events("a")] == ["created"]


class Troubled:
    """A look at the database that fails at first."""

    def __init__(self, client: Client, *errors: ControlError) -> None:
        self.look, self.errors = client.progress, list(errors)

    def __call__(self, task: Any) -> Progress:
        if self.errors:
            raise self.errors.pop(0)
        return self.look(task)


def test_a_database_that_is_away_for_a_moment_ends_no_watching(
    client: Client, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = ControlError("away", code="database", retry=Retry.OTHER)
    monkeypatch.setattr(client, "progress", Troubled(client, away, away))
    assert next(client.watch("a", every_s=0)).phase is S.NOT_STARTED
    monkeypatch.setattr(client, "progress", Troubled(client, ControlError("gone")))
    with pytest.raises(ControlError, match="gone"):
        next(client.watch("a", every_s=0))
    monkeypatch.setattr("sync_tasks.waiting.PATIENCE_S", 0.0)
    monkeypatch.setattr(client, "progress", Troubled(client, away, away))
    with pytest.raises(ControlError, match="away"):
        next(client.watch("a", every_s=0.01))


def test_a_database_that_is_away_for_a_moment_ends_no_waiting(
    client: Client, worker: Worker, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, errors = client._store.op, [ControlError("away", retry=Retry.OTHER)] * 2

    def op(op_id: int) -> Any:
        if errors:
            raise errors.pop()
        return look(op_id)

    monkeypatch.setattr(client._store, "op", op)
    assert client.start(task).state in (S.INITIALIZING, S.SYNCHRONIZING)
    assert errors == []


def test_events_go_on_from_the_last_one_known(client: Client, worker: Worker, task: Task) -> None:
    client.start(task)
    events = client.events("a")
    assert events[0].kind == "created"
    later = client.events("a", after=events[1].id)
    assert later[: len(events) - 2] == events[2:], "more may have happened between the two looks"


def test_all_tasks_at_one_look(client: Client, worker: Worker, task: Task) -> None:
    client.start(task)
    other = client.create(SOURCE, TARGET, name="b")
    assert [(r.task.name, len(r.nodes)) for r in client.readings()] == [("a", 1), ("b", 1)]
    client.release(other)
    assert [r.task.name for r in client.readings()] == ["a"]
    both = client.readings(released=True)
    assert [r.task.name for r in both] == ["a", "b"]
    assert both[0].nodes[0].task_id == task.id
    assert client.progress("a").nodes == Progress.of(both[0]).nodes
