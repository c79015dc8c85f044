"""What a later start on the same directory may and may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError, Side, TargetError, UsageError
from sync_tasks.secrets import SecretBox
from sync_tasks.spec import TaskSpec, mapping
from sync_tasks.states import TaskState
from sync_tasks.store import Store, migrate
from sync_tasks.supervise.opening import FINAL, Wanted, ended, open_task, same
from sync_tasks.supervise.outcome import failure
from sync_tasks.supervise.reading import read
from tests.unit.cli.samples import task


def wanted(source: str = "redis://a:6379", target: str = "redis://b:6379", **spec: Any) -> Wanted:
    here, there = Endpoint.parse(source, Side.SOURCE), Endpoint.parse(target, Side.TARGET)
    settings = TaskSpec(**spec)
    return Wanted(here, there, settings, mapping(settings.databases, here.db, there.db))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    url = f"sqlite:///{tmp_path / 'keyferry.db'}"
    migrate(url)
    return Store(url, SecretBox())


class Check:
    """Counts; fails when told to."""

    def __init__(self, error: KeyferryError | None = None) -> None:
        self.calls = 0
        self.error = error

    def __call__(self) -> None:
        self.calls += 1
        if self.error:
            raise self.error


def test_the_first_start_checks_and_the_second_does_not(store: Store) -> None:
    check = Check()
    first = open_task(store, wanted(), check)
    assert first.state == TaskState.INITIALIZING
    assert store.nodes(first.id)[0].wanted
    store.suspend(first.id)
    assert store.task(first.id).state == TaskState.SUSPENDED
    again = open_task(store, wanted(), check)
    assert (again.id, again.uid, again.state) == (first.id, first.uid, TaskState.INITIALIZING)
    assert check.calls == 1


def test_a_check_that_fails_leaves_no_task_so_that_the_next_start_checks_again(store: Store) -> None:
    with pytest.raises(TargetError):
        open_task(store, wanted(), Check(TargetError("no", hint="yes")))
    assert store.tasks() == []
    check = Check()
    open_task(store, wanted(), check)
    assert check.calls == 1


def test_a_task_made_but_never_begun_is_checked(store: Store) -> None:
    """The command was killed in between."""
    asked = wanted()
    store.create_task(asked.spec, asked.source, asked.target)
    check = Check()
    assert open_task(store, asked, check).state == TaskState.INITIALIZING
    assert check.calls == 1


@pytest.mark.parametrize("died_in", [TaskState.PRECHECKING, TaskState.PRECHECK_FAILED, TaskState.PRECHECK_PASSED])
def test_a_start_that_was_killed_between_two_states_is_gone_on_with(store: Store, died_in: TaskState) -> None:
    asked = wanted()
    made = store.create_task(asked.spec, asked.source, asked.target)
    store.transition(made.id, TaskState.PRECHECKING, "first start")
    store.transition(made.id, died_in, "first start")
    assert open_task(store, asked, Check()).state == TaskState.INITIALIZING


def test_settings_and_credentials_may_change(store: Store) -> None:
    first = open_task(store, wanted(), Check())
    later = wanted(source="redis://user:new-password@a:6379", extend_expiry_s=7)
    assert open_task(store, later, Check()).spec.extend_expiry_s == 7
    assert store.endpoints(first.id)[0].password == "new-password"


@pytest.mark.parametrize(
    ("asked", "side"),
    [
        (wanted(source="redis://other:6379"), "source"),
        (wanted(target="redis://b:6380"), "target"),
        (wanted(target="unix:///run/b"), "target"),
    ],
)
def test_other_servers_are_another_task(asked: Wanted, side: str) -> None:
    with pytest.raises(UsageError, match=f"belongs to another {side}") as caught:
        same(task(), asked)
    assert "--state" in caught.value.hint


@pytest.mark.parametrize(
    "asked", [wanted("redis://a:6379/1", "redis://b:6379"), wanted(databases={0: 0}), wanted(databases={0: 5})]
)
def test_other_databases_are_another_task(asked: Wanted) -> None:
    with pytest.raises(UsageError, match="all databases"):
        same(task(), asked)


def test_a_file_that_the_old_url_named_need_not_be_there_any_more() -> None:
    same(task(source="rediss://a:6379?ca=%2Fgone"), wanted(source="rediss://a:6379"))


@pytest.mark.parametrize("state", [TaskState.FINISHED, TaskState.RELEASED])
def test_what_has_ended_never_writes_again(state: TaskState) -> None:
    with pytest.raises(UsageError, match="never writes"):
        ended(task(state=state))


@pytest.mark.parametrize("code", sorted(FINAL))
def test_what_failed_for_good_says_what_to_do(code: str) -> None:
    error = {"code": code, "side": "target", "message": "m", "hint": "h"}
    with pytest.raises(KeyferryError, match="failed for good: m") as caught:
        ended(task(state=TaskState.FAILED, error=error))
    assert caught.value.exit_code == 4
    assert caught.value.hint == FINAL[code]


def test_other_failures_are_tried_again(store: Store) -> None:
    first = open_task(store, wanted(), Check())
    store.fail(first.id, TargetError("out of memory", hint="add some", code="target-refuses"))
    store.suspend(first.id)
    assert failure(store.task(first.id)).line() == "target: out of memory (add some)"
    again = open_task(store, wanted(), Check())
    assert (again.state, again.error) == (TaskState.INITIALIZING, None)


def test_a_start_frees_what_dead_owners_held(store: Store) -> None:
    first = open_task(store, wanted(), Check())
    node = store.nodes(first.id)[0]
    assert store.claim_node(node.id, "host:1:2:abc") is not None
    assert store.owned(first.id)
    store.release_all()
    assert not store.owned(first.id)
    assert store.claim_node(node.id, "host:3:4:def") is not None


def test_a_reading_counts_the_chunks_of_the_present_snapshot_by_database(store: Store) -> None:
    first = open_task(store, wanted(), Check())
    port = store.claim_node(store.nodes(first.id)[0].id, "host:1:2:abc")
    assert port is not None
    gen = port.begin_snapshot("r" * 40, 1, 0, None, None)
    ids = [
        port.add_chunk(gen=gen, seq=seq, db=db, shard=0, huge=False, path=str(seq), keys=10, size=100)
        for seq, db in enumerate((0, 0, 3))
    ]
    port.end_snapshot(gen, 30, 300)
    chunk = store.claim_chunk(ids[0], "host:5:6:ghi")
    assert chunk is not None
    chunk.done(10)
    found = read(store, first.id)
    assert [(load.db, load.keys, load.keys_done, load.bytes_done) for load in found.loads] == [
        (0, 20, 10, 100),
        (3, 10, 0, 0),
    ]
    assert not found.loaded
    for chunk_id in ids[1:]:
        other = store.claim_chunk(chunk_id, "host:5:6:ghi")
        assert other is not None
        other.done(10)
    assert read(store, first.id).loaded
    gen = port.begin_snapshot("s" * 40, 1, 0, None, None)
    assert read(store, first.id).loads == ()
    assert not read(store, first.id).loaded
