"""What shows a run, and which one fits where the output goes."""

from __future__ import annotations

import sys
from typing import Protocol

from sync_tasks.states import TaskState
from sync_tasks.supervise.outcome import Outcome, Reading


class Display(Protocol):
    """Shows a run. `every_s`: seconds between two calls of `show`."""

    every_s: float

    def starting(self, state: TaskState) -> None: ...

    def show(self, reading: Reading) -> None: ...

    def end(self, reading: Reading | None, outcome: Outcome) -> None: ...


def choose(*, json: bool) -> Display:
    """JSON lines on stdout if asked; bars on a terminal; else a line now and then on stderr."""
    if json:
        from sync_tasks.cli.json_lines import JsonLines

        return JsonLines(sys.stdout)
    if sys.stderr.isatty():
        from sync_tasks.cli.progress import Bars

        return Bars()
    from sync_tasks.cli.plain import PlainLines

    return PlainLines(sys.stderr, sys.stdout)
