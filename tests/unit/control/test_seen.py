"""Whether anything has changed is answered as a whole reading would answer it, for next to nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sync_tasks.errors import ConnectionLost, Side
from sync_tasks.spec import TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.store import Store
from sync_tasks.store.stream import StreamHandle
from tests.unit.control.conftest import chunk
from tests.unit.control.statements import Statements


@pytest.fixture
def handle(store: Store, task_id: int) -> StreamHandle:
    """Of a task that follows: its snapshot of two chunks is loaded."""
    made = store.claim_node(1, "h:1:2:x")
    assert made is not None
    gen = made.begin_snapshot("r", 1, 0, None, None)
    for seq in range(2):
        loader = store.claim_chunk(made.add_chunk(**chunk(seq, gen)), "h:1:3:x")  # type: ignore[arg-type]
        assert loader is not None
        loader.done(10)
    made.end_snapshot(gen, 20, 2000)
    made.begin_stream()
    return made


def test_beats_change_nothing_and_cost_nothing(store: Store, handle: StreamHandle, statements: Statements) -> None:
    before = store.seen()
    assert before is not None
    for _ in range(5):
        handle.renew()
        assert store.seen() == before
    assert not statements.dear


def load(store: Store, handle: StreamHandle) -> None:
    """Another chunk comes and is loaded, all between two looks."""
    added = handle.add_chunk(**chunk(2, handle.node().gen))  # type: ignore[arg-type]
    loader = store.claim_chunk(added, "h:1:3:x")
    assert loader is not None
    loader.done(10)


CHANGES: dict[str, Callable[[Store, int, StreamHandle], object]] = {
    "progress": lambda _store, _task, handle: handle.progress({"applied_offset": 5}),
    "delay": lambda _store, _task, handle: handle.progress({"delay_ms": 0.25}),
    "in sync": lambda _store, _task, handle: handle.progress({"in_sync": True}),
    "state": lambda store, task, _: store.transition(task, TaskState.MODIFYING, "test"),
    "failed": lambda store, task, _: store.fail(task, ConnectionLost("lost", side=Side.TARGET)),
    "settings": lambda store, task, _: store.update_spec(task, TaskSpec(name="other")),
    "stopped": lambda store, task, _: store.stop(task),
    "another owner": lambda store, _task, handle: handle.raise_epoch(handle.epoch + 1),
    "another snapshot": lambda _store, _task, handle: handle.begin_snapshot("r", 9, 0, None, None),
    "loaded": lambda store, _task, handle: load(store, handle),
    "void": lambda _store, _task, handle: handle.begin_snapshot("r", 9, 0, None, None, 7),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_seen(store: Store, task_id: int, handle: StreamHandle, what: str) -> None:
    before = store.seen()
    CHANGES[what](store, task_id, handle)
    assert store.seen() != before


def test_while_chunks_are_loaded_or_a_window_is_open_there_is_always_something_new(
    store: Store, task_id: int, handle: StreamHandle
) -> None:
    gen = handle.node().gen
    added = handle.add_chunk(**chunk(2, gen))  # type: ignore[arg-type]
    assert store.seen() is None
    loader = store.claim_chunk(added, "h:1:3:x")
    assert loader is not None
    assert store.seen() is None
    loader.done(10)
    assert store.seen() is not None
    handle.failing(ConnectionLost("cut", side=Side.SOURCE))
    assert store.seen() is None
    handle.healed("source")
    assert store.seen() is not None
