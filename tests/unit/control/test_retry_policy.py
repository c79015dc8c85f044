"""Pauses grow, are jittered, and end at half a minute."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from sync_tasks.retry_policy import FIRST_S, LONGEST_S, pause


def test_pauses_grow_to_a_limit() -> None:
    rng = Random(7)
    mean = [sum(pause(attempt, rng) for _ in range(200)) / 200 for attempt in range(1, 12)]
    assert all(later >= earlier - 0.5 for earlier, later in pairwise(mean))
    assert mean[3] > mean[1] > mean[0]
    assert all(FIRST_S <= pause(attempt, rng) <= LONGEST_S for attempt in range(1, 10_000, 97))
    assert pause(10**9, rng) >= LONGEST_S / 2


def test_two_workers_do_not_knock_together() -> None:
    assert pause(9, Random(1)) != pause(9, Random(2))
