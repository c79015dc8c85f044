"""Tasks, their addresses and settings."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, Side, TargetError, UsageError
from sync_tasks.models import Base
from sync_tasks.secrets import SecretBox, new_key
from sync_tasks.spec import TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.store import Store
from sync_tasks.store.rows import CHUNK_FIELDS, NODE_FIELDS
from sync_tasks.views import ChunkView, NodeView
from tests.unit.control.conftest import SOURCE, TARGET, chunk

SECRETS = ("s3cr@t", "s3cr%40t", "hush")


def written(store: Store) -> bytes:
    """All that stands in the database."""
    if not store.database.sqlite:
        with store.database.read() as session:
            rows = [row for table in Base.metadata.sorted_tables for row in session.execute(select(table))]
        return repr(rows).encode()
    store.dispose()
    return b"".join(path.read_bytes() for path in Path(make_url(store.database.url).database or "").parent.iterdir())


def test_a_new_task(store: Store) -> None:
    assert store.only_task() is None
    made = store.create_task(TaskSpec(), SOURCE, TARGET)
    assert store.only_task() == store.task(made.id) == made
    assert store.tasks() == [made]
    assert len(made.uid) == 16
    assert int(made.uid, 16) >= 0
    assert made.state is TaskState.NOT_STARTED
    assert made.name == "source.example:7000 to target.example:7001"
    (node,) = store.nodes(made.id)
    assert (node.number, node.wanted, node.gen, node.epoch) == (0, False, 0, 0)
    assert (node.keys_total, node.applied_offset, node.delay_ms, node.held) == (None, None, None, None)


def test_addresses_come_back_with_their_secrets_and_are_shown_without(store: Store) -> None:
    task = store.create_task(TaskSpec(), SOURCE, TARGET)
    assert store.endpoints(task.id) == (SOURCE, TARGET)
    shown = f"{task}{store.events(task.id)}{store!r}{store.database!r}"
    held = written(store)
    for secret in SECRETS:
        assert secret not in shown
        assert secret.encode() not in held


def test_a_database_password_is_not_shown_either() -> None:
    store = Store("postgresql+psycopg://u:hush@h/k", SecretBox())
    assert "hush" not in f"{store!r}{store.database!r}"


def test_another_key_cannot_open_the_addresses_until_they_are_given_again(store: Store) -> None:
    task = store.create_task(TaskSpec(), SOURCE, TARGET)
    other = Store(store.database.url, SecretBox(new_key()))
    with pytest.raises(ControlError, match="another key"):
        other.endpoints(task.id)
    changed = replace(SOURCE, password="new")
    other.set_endpoints(task.id, changed, TARGET)
    assert other.endpoints(task.id) == (changed, TARGET)
    other.dispose()


def test_settings_may_change_between_runs(store: Store, task_id: int) -> None:
    store.update_spec(task_id, TaskSpec(name="n", extend_expiry_s=5))
    task = store.task(task_id)
    assert (task.name, task.spec.extend_expiry_s) == ("n", 5)


def test_databases_may_not_change_once_copying_has_begun(store: Store, task_id: int) -> None:
    store.update_spec(task_id, TaskSpec(databases={0: 1}))
    assert store.task(task_id).databases == {0: 1}
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    store.update_spec(task_id, TaskSpec(databases={0: 1}, extend_expiry_s=1))
    with pytest.raises(UsageError, match="databases"):
        store.update_spec(task_id, TaskSpec(databases={0: 2}))
    with pytest.raises(UsageError, match="databases"):
        store.set_endpoints(task_id, replace(SOURCE, db=3), replace(TARGET, db=3))
    assert store.task(task_id).databases == {0: 1}
    assert store.task(task_id).spec.extend_expiry_s == 1


def test_the_urls_databases_are_the_tasks(store: Store) -> None:
    task = store.create_task(TaskSpec(), replace(SOURCE, db=3), replace(TARGET, db=4))
    assert task.databases == {3: 4}
    with pytest.raises(UsageError):
        store.create_task(TaskSpec(), SOURCE, replace(TARGET, db=4))
    assert len(store.tasks()) == 1


def test_a_directory_of_several_tasks_is_not_a_foreground_one(store: Store) -> None:
    store.create_task(TaskSpec(), SOURCE, TARGET)
    store.create_task(TaskSpec(), SOURCE, TARGET)
    with pytest.raises(ControlError, match="2 tasks"):
        store.only_task()


def test_a_task_that_is_not_there(store: Store) -> None:
    with pytest.raises(ControlError, match="no task 9"):
        store.task(9)


def test_a_database_that_was_never_set_up_says_so(url: str) -> None:
    store = Store(url, SecretBox())
    with pytest.raises(ControlError, match=r"no such table|does not exist") as caught:
        store.tasks()
    assert "not set up" in caught.value.hint
    store.dispose()


@pytest.mark.parametrize("url", ["hush", "mysql://u:hush@h/k", "x+y://u:hush@h/k"])
def test_a_wrong_database_url_is_not_repeated(url: str) -> None:
    with pytest.raises(ControlError, match="cannot be read") as caught:
        Store(url, SecretBox()).tasks()
    assert "hush" not in caught.value.line()


def test_addresses_of_any_length_make_a_name(store: Store) -> None:
    long = replace(SOURCE, host="h" * 253)
    task = store.create_task(TaskSpec(), long, replace(TARGET, host="g" * 253))
    assert len(task.name) == 300
    assert task.name.startswith("h" * 253)


def test_no_text_is_refused(store: Store, task_id: int) -> None:
    """Errors quote what servers say and what keys are called: that may be any bytes."""
    store.fail(task_id, TargetError("the key a\0b\udcff\u20ac", hint="\0"))
    error = store.task(task_id).error
    assert error is not None
    assert (error["message"], error["hint"]) == ("the key a\\0b\\udcff\u20ac", "\\0")
    assert "a\\0b" in store.events(task_id)[-1].text


def test_events_go_on_from_where_one_has_read(store: Store, task_id: int) -> None:
    events = store.events(task_id)
    assert events[0].kind == "created"
    assert store.events(task_id, events[1].id) == events[2:]
    assert events[0].at.tzinfo is not None


def test_a_start_forgets_what_the_last_run_knew_of_the_present(store: Store, task_id: int) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.progress({"in_sync": True, "settled": True, "delay_ms": 1.5, "applied_offset": 7})
    store.start(task_id)
    (node,) = store.nodes(task_id)
    assert (node.in_sync, node.settled, node.delay_ms, node.applied_offset) == (False, False, None, 7)
    assert (node.wanted, node.fresh) == (True, True)
    again = store.claim_node(1, "h:3:4:y")
    assert again is not None, "a start frees leases at once"
    assert again.epoch == handle.epoch + 1


def test_a_start_sends_open_chunks_anew(store: Store, task_id: int) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    ids = [handle.add_chunk(**chunk(seq)) for seq in range(2)]  # type: ignore[arg-type]
    taken = store.claim_chunk(ids[0], "h:1:3:x")
    assert taken is not None
    store.start(task_id)
    again = store.claim_chunk(ids[0], "h:9:9:x")
    assert again is not None
    assert again.chunk.epoch == taken.chunk.epoch + 1


def test_views_have_every_column_but_the_computed(store: Store) -> None:
    assert {f.name for f in fields(NodeView)} - set(NODE_FIELDS) == {"keys_done", "bytes_done", "epoch", "shard"}
    assert {f.name for f in fields(ChunkView)} - set(CHUNK_FIELDS) == {"state"}


def test_endpoints_of_both_sides_keep_their_sides(store: Store) -> None:
    task = store.create_task(TaskSpec(), SOURCE, TARGET)
    assert [endpoint.side for endpoint in store.endpoints(task.id)] == [Side.SOURCE, Side.TARGET]
    assert isinstance(store.endpoints(task.id)[0], Endpoint)
