"""What two clocks have seen of a window, without a database."""

from __future__ import annotations

import pytest

from sync_tasks.errors import Retry
from sync_tasks.retry_window import Lengths, Open, Window, past
from sync_tasks.sharing import Shortest

HOUR_S = 3600.0


@pytest.mark.parametrize(
    ("wall_s", "seen_s", "over"),
    [
        (599, 599, False),
        (600, 599, False),
        (599, 10_000, False),
        (600, 600, True),
        (10**6, 0, False),
        (-(10**6), 600, False),
    ],
)
def test_past_only_when_both_clocks_say_so(wall_s: float, seen_s: float, over: bool) -> None:
    assert Window(1000.0, seen_s).is_past(600.0, 1000.0 + wall_s) is over


def test_seconds_left_are_those_of_the_slower_clock_and_never_more_than_the_whole() -> None:
    assert Window(1000.0, 100.0).left(600.0, 1300.0) == 500
    assert Window(1000.0, 500.0).left(600.0, 1300.0) == 300
    assert Window(1000.0, 700.0).left(600.0, 1700.0) == 0
    assert Window(1000.0).left(600.0, 1000.0 - 5 * HOUR_S) == 600


def test_a_clock_that_was_set_back_counts_from_there() -> None:
    """Opened by a clock that was a day ahead: it does not last for a day longer."""
    window = Window(86_400.0).lived(1.0, 0.0)
    assert window == Window(0.0, 1.0)
    window = window.lived(599.0, 599.0)
    assert not window.is_past(600.0, 599.0)
    assert window.is_past(600.0, 600.0)


def test_a_clock_that_was_put_forward_and_back_ends_nothing_early() -> None:
    window = Window(0.0)
    for wall in (3 * HOUR_S, 10.0, 5 * HOUR_S):
        window = window.lived(60.0, wall)
        assert not window.is_past(600.0, wall)


def test_tasks_are_judged_together_each_by_its_first_window_that_is_past() -> None:
    """The second of two that share a server would outlive the first, if that counted as failed already."""
    seen = Window(0.0, 1800.0)
    windows = [
        Open(1, 7, Retry.CONNECTION, seen),
        Open(2, 8, Retry.CONNECTION, seen),
        Open(3, 8, Retry.OTHER, seen),
        Open(4, 9, Retry.CONNECTION, seen),
        Open(5, 9, Retry.OTHER, seen),
    ]
    lengths = {
        7: Lengths(Shortest(30), 10),
        8: Lengths(Shortest(30, 7, "a"), 10),
        9: Lengths(Shortest(720), 10),
    }
    assert {task_id: one.id for task_id, one in past(windows, lengths, 1800.0).items()} == {7: 1, 8: 2, 9: 5}
    assert past(windows, lengths, 599.0) == {}
