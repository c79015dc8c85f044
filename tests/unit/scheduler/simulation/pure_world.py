"""The policy without a database: pure functions, and dictionaries for rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

from scheduler.deadlines import Deadlines, Mark
from sync_tasks.errors import Retry, Side
from sync_tasks.retry_policy import pause
from sync_tasks.retry_window import Lengths, Open, Window, past
from sync_tasks.sharing import Share, shortest
from tests.unit.scheduler.simulation.history import SERVERS, STALL_S, TASKS, Key

T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Process:
    """A scheduler."""

    def __init__(self) -> None:
        self.lived = 0.0
        self.deadlines = Deadlines()


class PureWorld:
    """See `history.World`."""

    def __init__(self) -> None:
        self.wall = 1.8e9
        self._true = 0.0
        self._rng = Random(1)
        self._running = set(TASKS)
        self._minutes = dict.fromkeys(TASKS, (720, 9))
        self._rows: dict[Key, tuple[Mark, Window, int]] = {}
        self._failures = dict.fromkeys(TASKS, 0)
        self._processes = [Process(), Process()]
        self._leader: int | None = 0
        self._next = 0
        self._silent = 0.0  # seconds since the leader has gone
        self._epoch = 1

    def fail(self, task: int, kind: Retry, side: Side) -> float:
        key = (task, kind.value, side.value)
        if task not in self._running:
            return pause(1, self._rng)
        mark, window, attempts = self._rows.get(key) or (self._mark(), Window(self.wall), 0)
        self._rows[key] = mark, window, attempts + 1
        return pause(attempts + 1, self._rng)

    def heal(self, task: int, side: Side) -> None:
        self._drop(lambda key: key[0] == task and key[2] == side.value)

    def suspend(self, task: int) -> None:
        self._running.discard(task)
        self._drop(lambda key: key[0] == task)

    def resume(self, task: int) -> None:
        self._running.add(task)

    def modify(self, task: int, connection_min: int, other_min: int) -> None:
        self._minutes[task] = (connection_min, other_min)

    def hand_over(self) -> None:
        if self._leader is not None:
            self._lead(1 - self._leader)

    def crash(self) -> None:
        if self._leader is not None:
            self._processes[self._leader] = Process()
            self._leader, self._silent = None, 0.0
            self._next = self._epoch % 2

    def stall(self) -> None:
        """The other leads; the one that slept finds out before it writes anything."""
        if self._leader is not None:
            asleep = self._leader
            self.advance(STALL_S)
            self._processes[asleep].lived -= STALL_S - 1.0
            self._lead(1 - asleep)

    def restart(self) -> None:
        self._processes = [Process(), Process()]
        self._leader, self._silent, self._next = None, 0.0, 0

    def advance(self, seconds: float) -> None:
        self._true += seconds
        self.wall += seconds
        self._silent += seconds
        for process in self._processes:
            process.lived += seconds

    def tick(self) -> set[int]:
        if self._leader is None and self._silent >= 3.0:
            self._lead(self._next)
        if self._leader is None:
            return set()
        process = self._processes[self._leader]
        lived, passed = process.deadlines.look({mark for mark, _, _ in self._rows.values()}, process.lived)
        return self._judge(lived, passed) if lived else set()

    def leading(self) -> object:
        return None if self._leader is None else self._epoch

    def open(self) -> set[Key]:
        return set(self._rows)

    def failures(self, task: int) -> int:
        return self._failures[task]

    def _judge(self, lived: set[Mark], passed: float) -> set[int]:
        self._rows = {
            key: (mark, window.lived(passed if mark in lived else 0.0, self.wall), attempts)
            for key, (mark, window, attempts) in self._rows.items()
        }
        found = [Open(mark[0], key[0], key[1], window) for key, (mark, window, _) in self._rows.items()]
        failed = set(past(found, self._lengths(), self.wall))
        for task in failed:
            self._failures[task] += 1
            self.suspend(task)
        return failed

    def _lengths(self) -> dict[int, Lengths]:
        shares = [Share(task, str(task), *SERVERS[task], self._minutes[task][0]) for task in self._running]
        held = shortest(shares, shares)
        return {task: Lengths(held[task], self._minutes[task][1]) for task in self._running}

    def _lead(self, process: int) -> None:
        if self._leader is not None:
            self._processes[self._leader].deadlines.forget()
        self._leader = process
        self._epoch += 1

    def _mark(self) -> Mark:
        """The lowest free id, as SQLite would give it."""
        return max((mark[0] for mark, _, _ in self._rows.values()), default=0) + 1, T0 + timedelta(seconds=self._true)

    def _drop(self, which: object) -> None:
        self._rows = {key: row for key, row in self._rows.items() if not which(key)}  # type: ignore[operator]
