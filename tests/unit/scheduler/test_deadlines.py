"""Time is counted once, of windows that were open all of it."""

from __future__ import annotations

from datetime import UTC, datetime

from scheduler.deadlines import FLUSH_S, Deadlines

T0 = datetime(2026, 1, 1, tzinfo=UTC)
A, B = (1, T0), (2, T0)
A_AGAIN = (1, datetime(2026, 1, 2, tzinfo=UTC))


def test_time_counts_from_the_look_that_finds_a_window_and_is_given_once_a_second() -> None:
    deadlines = Deadlines()
    assert deadlines.look({A}, 50.0) == (set(), 0.0)
    assert deadlines.look({A, B}, 50.5) == (set(), 0.0)
    assert deadlines.look({A, B}, 50.0 + FLUSH_S) == ({A}, FLUSH_S)
    assert deadlines.look({A, B}, 53.0) == ({A, B}, 2.0)
    assert deadlines.look({B}, 54.0) == ({B}, 1.0)


def test_a_window_under_the_id_of_a_closed_one_is_another() -> None:
    deadlines = Deadlines()
    deadlines.look({A}, 0.0)
    assert deadlines.look({A_AGAIN}, 5.0) == (set(), 5.0)
    assert deadlines.look({A_AGAIN}, 6.0) == ({A_AGAIN}, 1.0)


def test_what_went_by_while_another_led_is_not_counted_twice() -> None:
    deadlines = Deadlines()
    deadlines.look({A}, 0.0)
    deadlines.forget()
    assert deadlines.look({A}, 5000.0) == (set(), 0.0)
    assert deadlines.look({A}, 5001.0) == ({A}, 1.0)
