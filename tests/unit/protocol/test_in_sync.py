"""When a stream job says that source and target are in sync."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.errors import ConnectionLost, Side
from tests.servers import Server
from tests.unit.protocol.conftest import TASK, Followed, until
from workers import in_sync, pump
from workers.applied import Progress
from workers.in_sync import InSync
from workers.moment import now_ms


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_sync, "ASK_S", 0.02)


def made(ours: bool = False, **other: Any) -> InSync:
    """Of a source that is at 1000, and was in sync."""
    source: Any = SimpleNamespace(offset=lambda: 1000, compares=ours)
    slots: Any = SimpleNamespace(look=lambda _: None, steady=True)
    source.__dict__.update(other)
    slots.__dict__.update(other)
    found = InSync(source, slots)
    found._was = True
    return found


def asked(reached: int, settled: int, received: int = 1000, ours: bool = False, oldest_ms: int | None = None) -> bool:
    """What it says."""
    found, progress = made(ours), Progress(streaming=True, reached=reached, settled_at=settled, oldest_ms=oldest_ms)
    found.ask(lambda: progress, lambda: received, connected=True)
    return found.holds(progress, connected=True)


@pytest.mark.parametrize(
    ("reached", "settled", "received", "said"),
    [
        (1000, 1000, 1000, True), (990, 990, 1000, True), (1000, 500, 1000, False), (990, 500, 1000, False),
        (990, 990, 990, False),
    ],
    ids=["all is there", "the last bytes are missing", "an expiry is held", "both", "it has not come"],
)
def test_it_is_in_sync_only_while_nothing_is_held(reached: int, settled: int, received: int, said: bool) -> None:
    assert asked(reached, settled, received) is said


def test_a_write_that_a_target_does_not_answer_is_missing_though_it_is_a_small_one() -> None:
    """It was sent, and the target stands still."""
    assert asked(990, 990, oldest_ms=now_ms() - 100)
    assert not asked(990, 990, oldest_ms=now_ms() - 10_000)


@pytest.mark.parametrize(
    ("behind", "steps", "said"), [(10, 0, False), (200, 10, False), (15, 10, True)],
    ids=["it stands still", "it falls behind by more than that", "it has all soon"],
)
def test_what_is_not_read_of_the_log_is_missing_though_it_is_little(
    monkeypatch: pytest.MonkeyPatch, behind: int, steps: int, said: bool
) -> None:
    """A stream that is throttled, say, has nothing in flight, and does not know when what comes next was received."""
    monkeypatch.setattr(in_sync, "LATE_MS", 150)
    at = [1000]
    found, progress = made(offset=lambda: at[0]), Progress(streaming=True, settled_at=1 << 62)
    heard: list[bool] = []
    for _ in range(12):
        progress.reached = at[0] - behind
        found.ask(lambda: progress, lambda: at[0], connected=True)
        heard.append(found.holds(progress, connected=True))
        at[0] += steps
    assert heard[0]
    assert heard[-1] is said


def test_parts_of_a_target_come_further_while_it_is_waited_for_them() -> None:
    """With a writer that never rests, none has all that the source has written when it is asked."""
    found, tells = made(), iter([990, 995, 1005])
    found._was = False

    def applied() -> Progress:  # a new one each time, as `Lanes` gives it
        at = next(tells, 1005)
        return Progress(streaming=True, committed=at, reached=at, settled_at=1 << 62)

    found.ask(applied, lambda: 1005, connected=True)
    assert found.holds(applied(), connected=True)


def test_a_slot_is_given_up_by_what_is_in_no_doubt() -> None:
    """Its last DEL may have been refused, and is to be copied anew first."""
    at: list[int | None] = []
    for progress in (
        Progress(streaming=True, committed=1000, reached=700), Progress(streaming=True, committed=900, reached=1000),
        Progress(streaming=True, committed=1000), Progress(committed=1000, reached=1000),
    ):
        made(look=at.append).ask(lambda one=progress: one, lambda: 1000, connected=True)  # type: ignore[misc]
    assert at == [700, 900, None, None]


def test_a_source_that_was_asked_while_it_was_not_followed_is_asked_once_more() -> None:
    """It may be another one by then, whose stream is not the target's."""
    found, progress = made(), Progress(streaming=True, committed=1000, reached=1000, settled_at=1000)
    found.ask(lambda: progress, lambda: 1000, connected=False)
    assert not found.holds(progress, connected=True)
    found.ask(lambda: progress, lambda: 1000, connected=True)
    assert found.holds(progress, connected=True)


def test_a_slot_is_given_up_by_no_offset_of_a_stream_that_has_broken_off() -> None:
    """A master that was restarted may count anew: the target is not as far as it seems."""
    at: list[int | None] = []
    progress = Progress(streaming=True, committed=1000, reached=1000)
    made(look=at.append).ask(lambda: progress, lambda: 1000, connected=False)
    assert at == [None]


def test_what_is_out_of_scope_is_passed_before_the_checkpoint_says_so(
    target: Server, follow: Callable[..., Followed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lane with nothing in its slots, say: several of them would never be at the end at the same moment."""
    monkeypatch.setattr(pump, "CHECKPOINT_S", 60.0)
    stream = follow(target, task=replace(TASK, databases={1: 1}))
    progress = stream.applier.progress
    first = stream.write([b"SELECT", b"0"], [b"SET", b"k", b"v"])
    assert until(lambda: progress.committed == first)
    end = stream.write([b"SET", b"k", b"w"])
    assert until(lambda: progress.reached == end)
    assert progress.committed == progress.sure == first
    stream.write([b"MULTI"], [b"SET", b"k", b"x"])
    assert not until(lambda: progress.reached != end, 0.3), "the rest of it is missing"


def test_what_is_refused_is_not_reached_before_it_is_copied_anew(
    target: Server, follow: Callable[..., Followed], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = follow(target)
    progress = stream.applier.progress
    with target.client() as client:
        client.rpush("k", "a")
    first = stream.write([b"SELECT", b"0"], [b"SET", b"other", b"1"])
    assert until(lambda: progress.reached == first)
    with monkeypatch.context() as held:
        held.setattr(pump.Pump, "_doubt", lambda *_: time.sleep(0.01))
        end = stream.write([b"INCR", b"k"])
        assert until(lambda: progress.committed == end)
        assert not until(lambda: (progress.reached, progress.sure) != (first, first), 0.3)


def test_a_log_of_our_own_has_nothing_that_changes_nothing() -> None:
    assert asked(1000, 1000, ours=True)
    assert not asked(999, 999, ours=True)


def test_a_source_that_does_not_say_its_offset_leaves_no_slot_sure() -> None:
    """The last look at them was before: a stream must not be closed by that."""
    said: list[str] = []

    def offset() -> int:
        raise ConnectionLost("it is cut", side=Side.SOURCE)

    found = made(offset=offset, unsure=lambda: said.append("unsure"))
    progress = Progress(streaming=True, reached=1000)
    found.ask(lambda: progress, lambda: 1000, connected=True)
    assert said == ["unsure"]
    assert not found.holds(progress, connected=True)
    assert found.sample is None
