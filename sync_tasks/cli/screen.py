"""What the user sees of a run: a display, drawn no more often than it asks for, and the last words."""

from __future__ import annotations

import time
from pathlib import Path

from sync_tasks.cli import failures
from sync_tasks.cli.display import Display, choose
from sync_tasks.states import TaskState
from sync_tasks.supervise.outcome import Outcome, Reading


class Screen:
    """Shows nothing until it is opened.

    Args:
        json: lines of JSON are asked for.
        secrets: what no output may show.
        where: the state directory, named at the end.
    """

    def __init__(self, *, json: bool, secrets: tuple[str, ...], where: Path) -> None:
        self._json, self._secrets, self._where = json, secrets, where
        self._display: Display | None = None
        self._shown = float("-inf")

    def open(self) -> None:
        self._display = choose(json=self._json)

    def checking(self) -> None:
        """Both servers are being asked."""
        if (display := self._due()) is not None:
            display.starting(TaskState.PRECHECKING)

    def show(self, reading: Reading, *, now: bool = False) -> None:
        if (display := self._due(now=now)) is not None:
            display.show(reading)

    def _due(self, *, now: bool = False) -> Display | None:
        """The display, if it is time to draw."""
        time_now = time.monotonic()
        if self._display is None or not (now or time_now - self._shown >= self._display.every_s):
            return None
        self._shown = time_now
        return self._display

    def end(self, reading: Reading | None, outcome: Outcome) -> None:
        """The last line or summary; the error or how to go on."""
        display = self._display or (choose(json=True) if self._json else None)
        try:
            if display is not None:
                display.end(reading, outcome)
        finally:
            if outcome.error is not None:
                failures.complain(outcome.error, self._secrets)
            elif outcome.code and reading is not None:
                failures.say(
                    f"stopped at a checkpoint; to go on, run the same command again (state in {self._where})", ()
                )
