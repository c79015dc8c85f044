"""Silence is judged by the watcher's own lived time."""

from __future__ import annotations

from scheduler.clock import LONGEST_STEP_S, LivedClock
from scheduler.watch import LEASE_TTL_S, Watch


def test_a_mark_that_stands_still_expires() -> None:
    watch: Watch[str] = Watch()
    assert watch.expired({"a": (1, 5)}, 0.0) == []
    assert watch.expired({"a": (1, 5)}, LEASE_TTL_S - 0.01) == []
    assert watch.expired({"a": (1, 5)}, LEASE_TTL_S) == ["a"]


def test_a_beat_or_a_new_epoch_starts_anew() -> None:
    watch: Watch[str] = Watch()
    watch.expired({"a": (1, 5), "b": (1, 1)}, 0.0)
    watch.expired({"a": (1, 6), "b": (2, 1)}, 3.0)
    assert watch.expired({"a": (1, 6), "b": (2, 1)}, LEASE_TTL_S + 2.9) == []
    assert watch.expired({"a": (1, 6), "b": (2, 1)}, LEASE_TTL_S + 3.0) == ["a", "b"]


def test_what_was_let_go_meanwhile_is_forgotten() -> None:
    watch: Watch[int] = Watch()
    watch.expired({1: (1, 0)}, 0.0)
    watch.expired({}, 1.0)
    assert watch.expired({1: (1, 0)}, 10.0) == []


def test_what_was_skipped_is_not_lived() -> None:
    times = iter([0.0, 0.25, 9.0, 9.25])
    clock = LivedClock(lambda: next(times))
    assert clock.step() == 0.25
    clock.skip()
    assert clock.step() == 0.5


def test_lived_time_counts_no_sleep() -> None:
    times = iter([50.0, 50.25, 50.5, 3650.5, 3650.75, 3650.0])
    clock = LivedClock(lambda: next(times))
    assert [clock.step() for _ in range(5)] == [
        0.25,
        0.5,
        0.5 + LONGEST_STEP_S,
        0.75 + LONGEST_STEP_S,
        0.75 + LONGEST_STEP_S,
    ]
