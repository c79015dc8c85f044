"""What the foreground command asks of the database while it waits."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from sync_tasks.cli import watch as module
from sync_tasks.cli.json_lines import JsonLines
from sync_tasks.cli.watch import Watch
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.secrets import SecretBox, new_key
from sync_tasks.spec import RetrySpec, TaskSpec
from sync_tasks.store import Store
from sync_tasks.store.stream import StreamHandle
from sync_tasks.supervise.directory import Directory
from tests.unit.control.conftest import started
from tests.unit.control.statements import counted

SOURCE, TARGET = Endpoint.parse("redis://a", Side.SOURCE), Endpoint.parse("redis://b", Side.TARGET)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(f"sqlite:///{tmp_path}/keyferry.db", SecretBox(new_key()))
    made.migrate()
    return made


@pytest.fixture
def handle(store: Store) -> StreamHandle:
    task_id = started(store, store.create_task(TaskSpec(), SOURCE, TARGET).id)
    made = store.claim_node(store.nodes(task_id)[0].id, "h:1:2:x")
    assert made is not None
    return made


@pytest.fixture
def watch(store: Store, handle: StreamHandle, tmp_path: Path) -> Watch:
    return Watch(store, handle.task.id, Directory(tmp_path))


def test_with_nothing_new_a_look_asks_no_dear_questions(store: Store, watch: Watch, handle: StreamHandle) -> None:
    first = watch.look()
    with counted(store.database) as statements:
        for _ in range(20):
            handle.renew()
            assert watch.look() is first
        assert not statements.dear
        assert len(statements) == 20 * (5 + 2), "of a look, and of a beat"


def test_what_is_new_is_in_the_next_reading(watch: Watch, handle: StreamHandle) -> None:
    watch.look()
    handle.progress({"applied_offset": 17})
    assert watch.look().nodes[0].applied_offset == 17
    handle.progress({"delay_ms": 3.5})
    assert watch.look().nodes[0].delay_ms == 3.5


def test_what_changes_while_it_is_read_is_read_again(
    store: Store, watch: Watch, handle: StreamHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = store.loads

    def late(task_id: int) -> object:
        handle.progress({"applied_offset": 23})  # the nodes have been read before
        return loads(task_id)

    monkeypatch.setattr(store, "loads", late)
    assert watch.look().nodes[0].applied_offset is None
    monkeypatch.undo()
    assert watch.look().nodes[0].applied_offset == 23


def test_a_disk_that_fills_up_and_is_emptied_is_in_the_next_reading(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not watch.look().disk_full
    for full in (True, False):
        monkeypatch.setattr(Directory, "is_full", lambda _directory, full=full: full)
        assert watch.look().disk_full is full


def test_a_disk_that_stays_full_ends_it_when_the_time_for_it_is_over(
    store: Store, watch: Watch, handle: StreamHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the retry window can be recorded then: `retry.other_min` counts here."""
    store.modify(handle.task.id, TaskSpec(retry=RetrySpec(other_min=2)))
    monkeypatch.setattr(Directory, "is_full", lambda _directory: True)
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for now[0] in (0.0, 119.0):
        assert watch.out_of_room(watch.look()) is None
    now[0] = 120.0
    over = watch.out_of_room(watch.look())
    assert over is not None
    assert over.code == 5


def test_the_same_reading_gives_the_same_line_and_another_its_own(watch: Watch, handle: StreamHandle) -> None:
    out = io.StringIO()
    lines = JsonLines(out)
    for offset in (1, 1, 2):
        handle.progress({"applied_offset": offset})
        lines.show(watch.look())
    assert [json.loads(line)["applied_offset"] for line in out.getvalue().splitlines()] == [1, 1, 2]
