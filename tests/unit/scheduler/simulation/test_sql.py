"""Some dozens of the same histories on SQLite: what the database and the scheduler make of the policy."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, example, given, settings

from sync_tasks.errors import Retry, Side
from tests.unit.control.databases import Sqlite
from tests.unit.scheduler.simulation.history import HISTORIES, HOUR_S, THERE_AND_BACK, Event
from tests.unit.scheduler.simulation.oracle import Oracle
from tests.unit.scheduler.simulation.sql_world import SqlWorld

# Not shrunk: a history takes a third of a second here, and what fails mostly fails in `test_pure`, too.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
DOZENS = settings(max_examples=40, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))

FAIL = Event("fail", (0, Retry.CONNECTION, Side.TARGET))


def played(rows: Sqlite, history: list[Event]) -> Oracle:
    rows.clear()
    oracle = Oracle(SqlWorld(rows))
    oracle.play(history)
    return oracle


@DOZENS
@given(history=HISTORIES)
@example(history=THERE_AND_BACK)
def test_a_task_fails_when_both_clocks_have_seen_its_window_and_never_else(
    sqlite_rows: Sqlite, history: list[Event]
) -> None:
    played(sqlite_rows, history)


def test_a_clock_that_jumps_all_day_fails_nobody(sqlite_rows: Sqlite) -> None:
    days = [Event("jump", (hours * HOUR_S,)) for hours in (30.0, -9.0, -30.0, 9.0)]
    steps = [step for jump in days for step in (jump, Event("go", (301.0,)), Event("hand_over"))]
    oracle = played(sqlite_rows, [FAIL, *steps * 20])
    assert oracle.running == {0, 1, 2, 3}


def test_a_deadline_survives_the_restart_of_everything(sqlite_rows: Sqlite) -> None:
    """New schedulers lead after three seconds of silence; those are all that is lost."""
    restart = [Event("restart"), Event("go", (2.0,)), Event("go", (4.0,))]
    history = [FAIL, Event("modify", (0, 30, 5)), Event("go", (1000.0,)), *restart, Event("go", (780.0,))]
    assert played(sqlite_rows, history).failed[0] == 0
    assert played(sqlite_rows, [*history, Event("go", (31.0,)), Event("go", (2.5,))]).failed[0] == 1


def test_one_side_that_works_again_ends_no_pause_of_the_other(sqlite_rows: Sqlite) -> None:
    played(sqlite_rows, [Event("go", (2.0,)), FAIL, Event("heal", (0, Side.SOURCE)), Event("go", (0.25,))])


def test_a_neighbour_with_a_short_window_shortens_and_no_longer_when_it_rests(sqlite_rows: Sqlite) -> None:
    history = [Event("suspend", (1,)), Event("modify", (1, 10, 5)), FAIL, Event("go", (1000.0,))]
    assert played(sqlite_rows, history).failed[0] == 0
    assert played(sqlite_rows, [*history, Event("resume", (1,)), Event("go", (2.5,))]).failed[0] == 1
    rests = [*history, Event("resume", (1,)), Event("suspend", (1,)), Event("go", (2.5,))]
    assert played(sqlite_rows, rests).failed[0] == 0
