"""The fields of --json, held to SPEC 7."""

from __future__ import annotations

import io
import json

from sync_tasks.cli.json_lines import JsonLines, line
from sync_tasks.errors import TargetError
from sync_tasks.states import TaskState
from sync_tasks.supervise.outcome import Outcome
from tests.unit.cli.samples import RETRY, node, reading, task

FIELDS = {
    "phase",
    "in_sync",
    "delay_ms",
    "source_offset",
    "applied_offset",
    "keys_done",
    "keys_total",
    "bytes_done",
    "bytes_total",
    "retry",
    "error",
    "nodes",
}


def lines_of(out: io.StringIO) -> list[dict]:
    return [json.loads(text) for text in out.getvalue().splitlines()]


def test_a_line_has_the_fields_of_the_contract() -> None:
    found = line(reading())
    assert set(found) == FIELDS
    assert found["phase"] == "synchronizing"
    assert found["in_sync"] is True
    assert (found["source_offset"], found["applied_offset"]) == (300, 200)
    assert (found["keys_done"], found["keys_total"]) == (40, 40)
    assert (found["retry"], found["error"]) == (None, None)


def test_offsets_are_sums_and_the_delay_is_the_worst() -> None:
    found = line(reading(node(), node(id=8, number=1, source_offset=11, applied_offset=5, delay_ms=90.0)))
    assert (found["source_offset"], found["applied_offset"], found["delay_ms"]) == (311, 205, 90.0)
    assert [n["source_offset"] for n in found["nodes"]] == [300, 11]


def test_unknown_is_null_and_never_zero() -> None:
    unknown = dict.fromkeys(("source_offset", "applied_offset", "delay_ms", "keys_total", "bytes_total"))
    found = line(reading(node(), node(id=8, number=1, **unknown)))
    assert all(found[name] is None for name in unknown)
    assert found["keys_done"] == 80


def test_before_a_task_exists_everything_is_null() -> None:
    out = io.StringIO()
    JsonLines(out).starting(TaskState.PRECHECKING)
    (found,) = lines_of(out)
    assert set(found) == FIELDS
    assert found.pop("phase") == "prechecking"
    assert found.pop("nodes") == []
    assert set(found.values()) == {None}


def test_of_two_retry_windows_the_one_that_closes_first_is_shown() -> None:
    import dataclasses

    later = dataclasses.replace(RETRY, side="target", seconds_left=99.0)
    assert line(reading(retries=(later, RETRY)))["retry"] == {
        "kind": "connection",
        "side": "source",
        "attempts": 4,
        "seconds_left": 33.3,
        "last_error": "source: connection refused",
    }


def test_the_error_of_a_failed_task_is_shown_with_its_four_fields() -> None:
    error = {"code": "c", "side": "target", "message": "m", "hint": "h"}
    assert line(reading(task=task(state=TaskState.FAILED, error=error)))["error"] == error


def test_a_full_disk_is_shown_while_the_store_itself_cannot_be_written() -> None:
    found = line(reading(disk_full=True))["error"]
    assert (found["code"], found["side"]) == ("disk-full", "control")
    assert found["hint"]


def test_a_failed_precheck_ends_in_a_line_that_says_so() -> None:
    out = io.StringIO()
    display = JsonLines(out)
    display.starting(TaskState.PRECHECKING)
    display.end(None, Outcome(4, TargetError("not empty", hint="empty it", code="target-not-empty")))
    last = lines_of(out)[-1]
    assert last["phase"] == "precheck-failed"
    assert last["error"] == {
        "code": "target-not-empty",
        "side": "target",
        "message": "not empty",
        "hint": "empty it",
    }


def test_each_line_is_written_out_at_once() -> None:
    class Counting(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    out = Counting()
    display = JsonLines(out)
    display.show(reading())
    display.end(reading(), Outcome(0))
    assert out.flushed == 2
    assert len(lines_of(out)) == 2
