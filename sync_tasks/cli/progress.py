"""Bars on a terminal: one a database for the load, one line for the stream. No thread: the caller forks."""

from __future__ import annotations

import time
from collections import deque

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sync_tasks.cli import plain, words
from sync_tasks.states import UNBEGUN, ChunkState, TaskState
from sync_tasks.supervise.outcome import Outcome, Reading

EVERY_S = 0.25
SAME_EVERY_S = 1.0  # while nothing changes but rates, which fade
RATE_OVER_S = 10.0  # seconds that a rate is the mean of


class Rate:
    """Mean growth of a count per second over the last seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float]] = deque()

    def add(self, now: float, value: float) -> float | None:
        """The rate with a new point, or None with too few."""
        if self._points and value < self._points[-1][1]:
            self._points.clear()  # a new snapshot counts from zero
        self._points.append((now, value))
        while now - self._points[0][0] > RATE_OVER_S:
            self._points.popleft()
        first, last = self._points[0], self._points[-1]
        return (last[1] - first[1]) / (last[0] - first[0]) if last[0] - first[0] > 0.5 else None


class Picture:
    """Bars of one task, with a title if there is one; remembers what rates are made of."""

    def __init__(self, title: str = "") -> None:
        self._title = title
        self._keys, self._bytes, self._applied = Rate(), Rate(), Rate()

    def draw(self, reading: Reading, now: float) -> Group:
        """The picture of one reading."""
        lines: list[Table | Text] = [Text(self._title, style="bold")] if self._title else []
        lines.append(self._head(reading))
        if reading.task.state not in UNBEGUN:
            lines.append(self._load(reading, now))
        if any(node.begun for node in reading.nodes):
            lines.append(self._stream(reading, now))
        if on_disk := words.on_disk(reading):
            lines.append(Text(on_disk, style="dim"))
        if waiting := words.trouble(reading):
            lines.append(Text(waiting, style="yellow"))
        return Group(*lines)

    def _head(self, reading: Reading) -> Text:
        style = "green" if reading.in_sync else "bold"
        state = "in sync" if reading.in_sync else words.phase(reading.task.state)
        return Text.assemble((state, style), f"  {reading.task.source} -> {reading.task.target}")

    def _load(self, reading: Reading, now: float) -> Table:
        nodes = reading.nodes
        keys, size = sum(n.keys_done for n in nodes), sum(n.bytes_done for n in nodes)
        totals = [n.keys_total for n in nodes]
        total = sum(t for t in totals if t is not None) if None not in totals else None
        rate, speed = self._keys.add(now, keys), self._bytes.add(now, size)
        left = (total - keys) / rate if total is not None and rate and total > keys else None
        grid = _grid()
        for load in reading.loads if len(reading.loads) > 1 else ():
            grid.add_row(f"  db {load.db}", *_row(load.keys_done, load.keys), words.size(load.bytes_done), "", "")
        pending = any(
            load.chunks.get(state) for load in reading.loads for state in (ChunkState.READY, ChunkState.RUNNING)
        )
        busy = pending or not reading.loaded
        grid.add_row(
            "load",
            *_row(keys, total),
            words.size(size),
            f"{words.number(round(rate))} keys/s {words.size(speed)}/s" if busy and rate else "",
            f"{words.duration(left)} left" if busy and left is not None else "",
        )
        return grid

    def _stream(self, reading: Reading, now: float) -> Table:
        applied = [n.applied_offset for n in reading.nodes if n.applied_offset is not None]
        received = [n.received_offset for n in reading.nodes if n.received_offset is not None]
        delays = [n.delay_ms for n in reading.nodes if n.delay_ms is not None]
        rate = self._applied.add(now, sum(applied))
        behind = words.behind(reading)
        left = behind / rate if behind and rate else None
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            "stream",
            f"delay {words.delay(max(delays) if delays else None)}",
            f"{words.size(behind)} behind",
            f"applied {words.number(sum(applied) if applied else None)}",
            f"received {words.number(sum(received) if received else None)}",
            f"{words.size(rate)}/s" if rate is not None else "",
            f"{words.duration(left)} left" if left is not None and left >= 1 else "",
        )
        return grid


class Bars:
    """Display for a terminal."""

    every_s = EVERY_S

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
        self._start = time.monotonic()
        self._picture = Picture()
        self._drawn: tuple[Reading, float] | None = None  # the last one, and when
        self._live.start()

    def starting(self, state: TaskState) -> None:
        """One word until there is more to say."""
        self._live.update(Text(state.value), refresh=True)

    def show(self, reading: Reading) -> None:
        """Draw it all anew, but the very same reading less often."""
        now = time.monotonic()
        if self._drawn is None or self._drawn[0] is not reading or now - self._drawn[1] >= SAME_EVERY_S:
            self._drawn = reading, now
            self._live.update(self._picture.draw(reading, now), refresh=True)

    def end(self, reading: Reading | None, outcome: Outcome) -> None:
        """Leave the last picture, and the summary under it."""
        if reading is not None:
            self.show(reading)
        self._live.stop()
        if reading is not None:
            self._console.print(plain.summary(reading, time.monotonic() - self._start), highlight=False)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=6)
    grid.add_column(width=30)
    for _ in range(4):
        grid.add_column(no_wrap=True)
    return grid


def _row(done: int, total: int | None) -> tuple[ProgressBar, str]:
    shown = None if total is None else float(max(total, 1))
    finished = total == 0
    bar = ProgressBar(total=shown, completed=1.0 if finished else float(done), width=30, pulse=total is None)
    return bar, f"{words.number(done)} / {words.number(total)} keys"
