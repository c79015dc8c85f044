"""`--json`: SPEC 7's fields, one object a line, at least twice a second."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, TextIO

from sync_tasks.progress import Problem, Progress
from sync_tasks.states import TaskState
from sync_tasks.supervise.outcome import Outcome, Reading

EVERY_S = 0.4


class JsonLines:
    """Display that writes to a stream, flushed line by line."""

    every_s = EVERY_S

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._state = TaskState.NOT_STARTED
        self._shown: tuple[Reading, str] | None = None  # the last reading, and its line

    def starting(self, state: TaskState) -> None:
        """A line of a run whose task is not there yet: all of it unknown."""
        self._state = state
        self._write(blank(state))

    def show(self, reading: Reading) -> None:
        """A line of a running task; the same reading gives the same line."""
        if self._shown is None or self._shown[0] is not reading:
            self._shown = reading, json.dumps(line(reading), separators=(",", ":"))
        self._say(self._shown[1])

    def end(self, reading: Reading | None, outcome: Outcome) -> None:
        """The last line."""
        if outcome.error is not None and self._state is TaskState.PRECHECKING:
            self._state = TaskState.PRECHECK_FAILED
        last = blank(self._state) if reading is None else line(reading)
        if outcome.error is not None:
            last["error"] = dataclasses.asdict(Problem.of(outcome.error))
        self._write(last)

    def _write(self, fields: dict[str, Any]) -> None:
        self._say(json.dumps(fields, separators=(",", ":")))

    def _say(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()


def blank(state: TaskState) -> dict[str, Any]:
    """All fields, nothing known."""
    return Progress(state).as_dict()


def line(reading: Reading) -> dict[str, Any]:
    """The fields of SPEC 7."""
    return Progress.of(reading).as_dict()
