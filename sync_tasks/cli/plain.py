"""A line every five seconds, for logs; and the summary at the end, for everybody who is not a program."""

from __future__ import annotations

import time
from typing import TextIO

from sync_tasks.cli import words
from sync_tasks.states import TaskState
from sync_tasks.supervise.outcome import Outcome, Reading

EVERY_S = 5.0


class PlainLines:
    """Display for output that is no terminal: progress on `err`, the summary on `out`."""

    every_s = EVERY_S

    def __init__(self, err: TextIO, out: TextIO) -> None:
        self._err = err
        self._out = out
        self._start = time.monotonic()

    def starting(self, state: TaskState) -> None:
        """Nothing: a start takes a second."""

    def show(self, reading: Reading) -> None:
        """One line."""
        print(f"keyferry: {status(reading)}", file=self._err, flush=True)

    def end(self, reading: Reading | None, outcome: Outcome) -> None:
        """The summary, unless the run has not begun."""
        if reading is not None:
            print(summary(reading, time.monotonic() - self._start), file=self._out, flush=True)


def status(reading: Reading) -> str:
    """Where it stands, as one line."""
    keys_done = sum(node.keys_done for node in reading.nodes)
    totals = [node.keys_total for node in reading.nodes]
    total = None if None in totals else sum(t for t in totals if t is not None)
    parts = [
        words.phase(reading.task.state),
        f"{words.number(keys_done)} of {words.number(total)} keys",
        f"{words.size(sum(node.bytes_done for node in reading.nodes))} loaded",
        f"{words.size(words.behind(reading))} behind",
    ]
    delays = [node.delay_ms for node in reading.nodes if node.delay_ms is not None]
    if delays:
        parts.append(f"delay {words.delay(max(delays))}")
    if reading.in_sync:
        parts.append("in sync")
    if on_disk := words.on_disk(reading):
        parts.append(on_disk)
    waiting = words.trouble(reading)
    return ", ".join([*parts, waiting] if waiting else parts)


def summary(reading: Reading, seconds: float) -> str:
    """What this run leaves behind, as one paragraph."""
    task = reading.task
    held = [node.held for node in reading.nodes]
    still = sum(count for count in held if count)
    keys = sum(node.keys_done for node in reading.nodes)
    text = [
        f"{task.source} -> {task.target}: {words.number(keys)} keys loaded"
        f" ({words.size(sum(node.bytes_done for node in reading.nodes))})",
        f"{words.size(words.behind(reading))} behind" if words.behind(reading) != 0 else "nothing behind",
        f"{words.number(still)} expiries still held" if still else "no expiry held"
        if reading.settled
        else "expiries not settled yet",
        f"{words.duration(seconds)} this time",
    ]  # fmt: skip
    if task.state == TaskState.FINISHED:
        text.append("cut over: nothing of this task writes to the target any more")
    return "; ".join(text)
