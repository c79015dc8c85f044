"""Looking on at tasks, one or several: bars on a terminal, lines elsewhere, objects for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from sync_tasks.cli import plain
from sync_tasks.cli.task_options import put
from sync_tasks.errors import ControlError, KeyferryError
from sync_tasks.progress import Problem, Progress
from sync_tasks.states import ENDED, TaskState
from sync_tasks.supervise.outcome import Reading

if TYPE_CHECKING:
    from rich.console import Console

    from sync_tasks.client import Client

FAILED = frozenset({TaskState.FAILED, TaskState.PRECHECK_FAILED})


class Show(Protocol):
    """Shows tasks. `every_s`: seconds between two looks."""

    every_s: float

    def show(self, readings: Sequence[Reading]) -> None: ...

    def end(self) -> None: ...


def look_on(client: Client, ids: Sequence[int], show: Show) -> int:
    """Until all of them have ended or failed. Raises why the first of those failed that did."""
    from sync_tasks.waiting import looks

    try:
        for readings in looks(lambda: [client.reading(task_id) for task_id in ids], show.every_s):
            show.show(readings)
            if all(reading.task.state in ENDED | FAILED for reading in readings):
                break
    finally:
        show.end()
    for reading in readings:
        if reading.task.state in FAILED:
            raise _failure(reading)
    return 0


def _failure(reading: Reading) -> KeyferryError:
    problem = Problem.held(reading.task.error) or Problem.of(ControlError("it has failed", code="failed"))
    error = problem.exception()
    error.message = f"{reading.task.name}: {error.message}"
    return error


def choose(*, json: bool) -> Show:
    """What fits where the output goes."""
    if json:
        return Objects()
    return Pictures() if sys.stderr.isatty() else Lines()


class Objects:
    """One object a line for each task, with the fields of `keyferry sync --json`."""

    every_s = 0.4

    def show(self, readings: Sequence[Reading]) -> None:
        for reading in readings:
            put({"id": reading.task.id, "name": reading.task.name, **Progress.of(reading).as_dict()})

    def end(self) -> None:
        pass


class Lines:
    """A line for each task now and then, on stderr; none for one that has ended and was shown so."""

    every_s = 0.5
    SAY_EVERY_S = 5.0

    def __init__(self) -> None:
        self._said: dict[int, tuple[TaskState, float]] = {}

    def show(self, readings: Sequence[Reading]) -> None:
        now = time.monotonic()
        for reading in readings:
            task = reading.task
            state, at = self._said.get(task.id, (None, now))
            over = task.state in ENDED | FAILED
            if state is task.state and (over or now - at < self.SAY_EVERY_S):
                continue
            self._said[task.id] = (task.state, now)
            print(f"keyferry: {task.name}: {plain.status(reading)}", file=sys.stderr, flush=True)

    def end(self) -> None:
        pass


class Pictures:
    """Bars, task by task."""

    every_s = 0.25

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        from sync_tasks.cli.progress import Picture

        self._make = Picture
        self._pictures: dict[int, Picture] = {}
        self._live = Live(console=console or Console(stderr=True), auto_refresh=False, redirect_stdout=False)
        self._live.start()

    def show(self, readings: Sequence[Reading]) -> None:
        from rich.console import Group

        now = time.monotonic()
        pictures = []
        for reading in readings:
            name = reading.task.name
            picture = self._pictures.setdefault(reading.task.id, self._make(title=name))
            pictures.append(picture.draw(reading, now))
        self._live.update(Group(*pictures), refresh=True)

    def end(self) -> None:
        self._live.stop()
