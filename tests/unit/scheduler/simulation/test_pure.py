"""Thousands of histories, each of days, in seconds: the policy alone."""

from __future__ import annotations

import time

from hypothesis import HealthCheck, example, given, settings

from sync_tasks.errors import Retry, Side
from tests.unit.scheduler.simulation.history import HISTORIES, HOUR_S, THERE_AND_BACK, Event
from tests.unit.scheduler.simulation.oracle import Oracle
from tests.unit.scheduler.simulation.pure_world import PureWorld

LONG = settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))


@LONG
@given(HISTORIES)
@example(THERE_AND_BACK)
def test_a_task_fails_when_both_clocks_have_seen_its_window_and_never_else(history: list[Event]) -> None:
    Oracle(PureWorld()).play(history)


def test_a_week_of_trouble_takes_milliseconds() -> None:
    oracle = Oracle(PureWorld())
    began = time.perf_counter()
    fails, heals = Event("fail", (0, Retry.CONNECTION, Side.SOURCE)), Event("heal", (0, Side.SOURCE))
    for _ in range(7 * 24):
        oracle.play([fails, Event("go", (HOUR_S,)), heals])
    took = time.perf_counter() - began
    assert oracle.failed[0] == 0
    assert oracle.running == {0, 1, 2, 3}
    assert took < 1.0


def test_the_simulation_does_fail_tasks() -> None:
    """Else all that it shows would be that nothing happens."""
    oracle = Oracle(PureWorld())
    oracle.play([Event("fail", (0, Retry.CONNECTION, Side.TARGET)), Event("modify", (1, 10, 1)), Event("go", (700.0,))])
    assert oracle.failed == {0: 1, 1: 0, 2: 0, 3: 0}
