"""Retry windows by simulated time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sync_tasks.errors import ConnectionLost, CredentialsRefused, Retry, Side, SourceError, SpoolFull, TargetBusy
from sync_tasks.models import RetryWindow
from sync_tasks.retry_policy import FIRST_S, LONGEST_S
from sync_tasks.spec import RetrySpec, TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.store import Store
from sync_tasks.store.stream import StreamHandle
from tests.unit.control.conftest import Wall, chunk

CUT = ConnectionLost("connection refused", hint="check it", side=Side.SOURCE)


@pytest.fixture
def handle(store: Store, task_id: int) -> StreamHandle:
    claimed = store.claim_node(1, "h:1:2:x")
    assert claimed is not None
    return claimed


def see(store: Store, seconds: float) -> None:
    """What the scheduler does, second by second."""
    with store.database.write() as session:
        for window in session.query(RetryWindow):
            window.seen_s = seconds


@pytest.mark.parametrize(("error", "minutes"), [(CUT, 720), (TargetBusy("OOM"), 10), (SpoolFull("full"), 10)])
def test_default_lengths(store: Store, task_id: int, handle: StreamHandle, error: ConnectionLost, minutes: int) -> None:
    handle.failing(error)
    (window,) = store.retries(task_id)
    assert window.seconds_left == minutes * 60
    assert (window.kind, window.side, window.attempts) == (error.retry.value, error.side.value, 1)
    assert window.code == error.code
    assert store.task(task_id).state is TaskState.RETRYING


def test_lengths_are_the_tasks(store: Store, task_id: int, handle: StreamHandle) -> None:
    store.update_spec(task_id, TaskSpec(retry=RetrySpec(connection_min=30, other_min=2)))
    handle.failing(CUT)
    handle.failing(TargetBusy("OOM"))
    assert [window.seconds_left for window in store.retries(task_id)] == [120, 1800]


def test_attempts_count_within_the_window_and_its_end_stays(
    store: Store, task_id: int, handle: StreamHandle, wall: Wall
) -> None:
    for _ in range(5):
        handle.failing(CUT)
        wall.now += 100
    (window,) = store.retries(task_id)
    assert window.attempts == 5
    assert window.seconds_left == 720 * 60, "the scheduler has not seen any of it"
    see(store, 720 * 60)
    assert store.retries(task_id)[0].seconds_left == 720 * 60 - 500
    assert window.last_error == "source: connection refused (check it)"
    assert window.opened_at.tzinfo is not None


def test_pauses_grow(handle: StreamHandle) -> None:
    pauses = [handle.failing(CUT) for _ in range(12)]
    assert pauses[0] < pauses[4] < pauses[10]


def test_a_job_does_not_decide_that_a_window_is_past(
    store: Store, task_id: int, handle: StreamHandle, wall: Wall
) -> None:
    """Its wall clock is its own host's; the scheduler fails the task, and the job hears of it at its next beat."""
    handle.failing(TargetBusy("OOM"))
    wall.now += 10**6
    see(store, 10**6)
    handle.failing(TargetBusy("OOM"))
    assert store.task(task_id).state is TaskState.RETRYING
    assert store.retries(task_id)[0].seconds_left == 0


@pytest.mark.parametrize("state", [TaskState.SUSPENDED, TaskState.FAILED])
def test_a_failure_that_comes_late_opens_no_window(
    store: Store, task_id: int, handle: StreamHandle, state: TaskState
) -> None:
    """The job of a task that rests has not heard of it yet: the next run would begin with a window half gone."""
    store.transition(task_id, state, "test")
    pause = handle.failing(SpoolFull("no space"))
    assert FIRST_S <= pause <= LONGEST_S
    assert store.retries(task_id) == []
    assert store.task(task_id).state is state
    assert store.task(task_id).error is None
    assert "retry" not in {event.kind for event in store.events(task_id)}


def test_a_task_that_takes_up_new_settings_while_it_fails_is_still_retrying(
    store: Store, task_id: int, handle: StreamHandle
) -> None:
    handle.begin_stream()
    store.modify(task_id, TaskSpec(extend_expiry_s=5))
    handle.failing(CUT)
    assert store.task(task_id).state is TaskState.MODIFYING
    handle.took_up()
    assert store.task(task_id).state is TaskState.RETRYING
    handle.healed(Side.SOURCE)
    assert store.task(task_id).state is TaskState.SYNCHRONIZING


def test_a_side_that_fails_as_it_is_taken_for_healed_is_closed_by_the_next_success(
    store: Store, task_id: int, handle: StreamHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receiver and applier both speak for our own side; the one comes between the other's commit and its memory."""
    failing = threading.Thread(target=handle.failing, args=(SpoolFull("no space"),))
    write = StreamHandle._write

    @contextmanager
    def then_another(self: StreamHandle) -> Iterator[Any]:
        with write(self) as found:
            yield found
        if threading.current_thread() is threading.main_thread() and failing.ident is None:
            failing.start()
            failing.join(0.3)

    monkeypatch.setattr(StreamHandle, "_write", then_another)
    handle.healed(Side.CONTROL)
    failing.join()
    assert len(store.retries(task_id)) == 1
    handle.healed(Side.CONTROL)
    assert store.retries(task_id) == []


def test_a_fatal_error_opens_no_window(store: Store, task_id: int, handle: StreamHandle) -> None:
    with pytest.raises(SourceError):
        handle.failing(SourceError("no"))
    assert store.retries(task_id) == []
    assert store.task(task_id).state is TaskState.INITIALIZING


@pytest.mark.parametrize("side", [Side.SOURCE, Side.TARGET])
def test_credentials_that_are_refused_in_mid_run_are_retried(
    store: Store, task_id: int, handle: StreamHandle, side: Side
) -> None:
    """A password is rotated: first on the server, a moment later in the file that the URL names."""
    handle.failing(CredentialsRefused("WRONGPASS invalid password", side=side))
    (window,) = store.retries(task_id)
    assert (window.kind, window.side, window.code, window.seconds_left) == ("other", side, "credentials", 600)
    handle.healed(side)
    assert store.retries(task_id) == []


def test_a_loader_whose_credentials_are_refused_does_not_end_the_task(
    store: Store, task_id: int, handle: StreamHandle
) -> None:
    gen = handle.begin_snapshot("r", 1, 0, None, None)
    chunk_id = handle.add_chunk(**chunk(0, gen))  # type: ignore[arg-type]
    taken = store.claim_chunk(chunk_id, "h:1:3:x")
    assert taken is not None
    store.chunk_failed(chunk_id, taken.chunk.epoch, CredentialsRefused("NOPERM", side=Side.TARGET))
    assert store.task(task_id).state is TaskState.RETRYING
    assert [window.kind for window in store.retries(task_id)] == ["other"]


def test_the_task_goes_on_when_the_last_window_closes(store: Store, task_id: int, handle: StreamHandle) -> None:
    handle.begin_stream()
    handle.failing(CUT)
    handle.failing(TargetBusy("OOM"))
    handle.failing(SourceError("LOADING", retry=Retry.OTHER))
    handle.healed(Side.SOURCE)
    assert [window.side for window in store.retries(task_id)] == ["target"]
    assert store.task(task_id).state is TaskState.RETRYING
    handle.healed(Side.TARGET)
    assert store.task(task_id).state is TaskState.SYNCHRONIZING


def test_a_stream_that_begins_while_a_window_is_open_keeps_retrying(
    store: Store, task_id: int, handle: StreamHandle
) -> None:
    handle.failing(CUT)
    handle.begin_stream()
    assert store.task(task_id).state is TaskState.RETRYING
    handle.healed(Side.SOURCE)
    assert store.task(task_id).state is TaskState.SYNCHRONIZING


def test_a_new_failure_after_healing_opens_a_new_window(
    store: Store, task_id: int, handle: StreamHandle, wall: Wall
) -> None:
    handle.failing(CUT)
    wall.now += 40_000
    see(store, 40_000)
    handle.healed(Side.SOURCE)
    handle.failing(CUT)
    (window,) = store.retries(task_id)
    assert (window.attempts, window.seconds_left) == (1, 720 * 60)


def test_windows_survive_their_process(store: Store, task_id: int, handle: StreamHandle, wall: Wall) -> None:
    handle.failing(CUT)
    wall.now += 1000
    see(store, 1000)
    store.release_owner("h:1")
    store.start(task_id)
    newer = store.claim_node(1, "h:5:6:y")
    assert newer is not None
    newer.failing(CUT)
    (window,) = store.retries(task_id)
    assert (window.attempts, window.seconds_left) == (2, 720 * 60 - 1000)


def test_a_second_message_is_no_second_attempt(store: Store, task_id: int, handle: StreamHandle, wall: Wall) -> None:
    """While all workers were busy several messages were sent; the first one's job has failed and pauses."""
    pause = handle.failing(CUT)
    store.release_node(1, handle.epoch)
    assert store.claim_node(1, "h:5:6:y") is None
    wall.now += pause
    assert store.claim_node(1, "h:5:6:y") is not None


def test_what_is_written_of_an_error_holds_no_credentials(store: Store, task_id: int, handle: StreamHandle) -> None:
    handle.failing(ConnectionLost("at redis://u:hush@h", hint="see redis://:hush@h", side=Side.SOURCE))
    handle.event("x", "redis://u:hush@h")
    handle.failing(SpoolFull("redis://u:hush@h"))
    assert "hush" not in f"{store.retries(task_id)}{store.events(task_id)}{store.task(task_id)}"
