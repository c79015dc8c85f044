"""When a run is done, decided on readings alone."""

from __future__ import annotations

import dataclasses

import pytest

from sync_tasks.cli.plain import summary
from sync_tasks.errors import Side
from sync_tasks.states import ChunkState, TaskState
from sync_tasks.supervise.outcome import decide
from sync_tasks.supervise.until import Until
from tests.unit.cli.samples import LOAD, node, reading, task

BEFORE = {7: 2}  # the sample's node has epoch 3: a job of this run has taken it


def test_in_sync_ends_a_run_that_waits_for_it() -> None:
    assert decide(reading(), Until.IN_SYNC, BEFORE).code == 0


def test_never_goes_on_whatever_is_reached() -> None:
    assert decide(reading(), Until.NEVER, BEFORE) is None


@pytest.mark.parametrize("change", [{"in_sync": False}, {"settled": False}])
def test_in_sync_needs_nothing_behind_and_nothing_held(change: dict) -> None:
    assert decide(reading(node(**change)), Until.IN_SYNC, BEFORE) is None


def test_what_a_former_run_said_of_being_in_sync_does_not_count() -> None:
    assert decide(reading(node(epoch=2)), Until.IN_SYNC, BEFORE) is None


def test_every_node_must_be_in_sync() -> None:
    one = node()
    other = node(id=8, number=1, in_sync=False)
    assert decide(reading(one, other), Until.IN_SYNC, BEFORE) is None
    both = reading(one, dataclasses.replace(other, in_sync=True))
    assert decide(both, Until.IN_SYNC, BEFORE).code == 0


def test_full_does_not_wait_for_the_stream() -> None:
    assert decide(reading(node(in_sync=False)), Until.FULL, BEFORE).code == 0


@pytest.mark.parametrize("state", [ChunkState.READY, ChunkState.RUNNING])
def test_full_waits_for_every_chunk(state: ChunkState) -> None:
    load = dataclasses.replace(LOAD, chunks={ChunkState.DONE: 2, state: 1})
    assert decide(reading(loads=(LOAD, load)), Until.FULL, BEFORE) is None


@pytest.mark.parametrize("change", [{"snapshot_done": False}, {"settled": False}])
def test_full_waits_for_the_snapshot_and_for_held_expiries(change: dict) -> None:
    assert decide(reading(node(**change)), Until.FULL, BEFORE) is None


def test_no_node_is_not_all_nodes() -> None:
    nothing = dataclasses.replace(reading(), nodes=(), loads=())
    assert decide(nothing, Until.FULL, BEFORE) is None
    assert decide(nothing, Until.IN_SYNC, BEFORE) is None


@pytest.mark.parametrize(("side", "code"), [("source", 3), ("target", 4), ("control", 5), ("usage", 2)])
def test_a_failed_task_ends_with_the_code_of_its_side(side: str, code: int) -> None:
    error = {"code": "refused-command", "side": side, "message": "m", "hint": "h"}
    outcome = decide(reading(task=task(state=TaskState.FAILED, error=error)), Until.NEVER, BEFORE)
    assert outcome.code == code
    assert (outcome.error.code, outcome.error.side) == ("refused-command", Side(side))
    assert outcome.error.line() == f"{side}: m (h)"


@pytest.mark.parametrize("until", Until)
def test_a_task_that_was_cut_over_is_done(until: Until) -> None:
    finished = reading(node(in_sync=False, settled=False), task=task(state=TaskState.FINISHED))
    assert decide(finished, until, {}).code == 0
    assert "cut over" in summary(finished, 1.0)


def test_failure_wins_over_success() -> None:
    error = {"code": "x", "side": "target", "message": "m", "hint": ""}
    assert decide(reading(task=task(state=TaskState.FAILED, error=error)), Until.FULL, BEFORE).code == 4


def test_a_failed_task_without_an_error_still_ends() -> None:
    assert decide(reading(task=task(state=TaskState.FAILED)), Until.NEVER, BEFORE).code == 5
