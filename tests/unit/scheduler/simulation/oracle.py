"""What must hold in any history, by the books of somebody who knows the true time and remembers everything.

It shares no code with the policy: lengths are found by looking at all pairs of tasks, times by adding up all there was.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sync_tasks.errors import Retry
from sync_tasks.retry_policy import FIRST_S, LONGEST_S
from tests.unit.scheduler.simulation.history import SERVERS, STALL_S, TASKS, Event, Key, World

SURE_S = 1.0
"""What a scheduler has seen of a window in less than that may not be written yet."""


@dataclass
class Opened:
    """One open window. `true_s` went by since, `lived_s` of it under the eyes of one scheduler for sure.

    `walls` is what the wall clock showed at the opening and at each look, `written` the same without such looks as may
    have changed nothing.
    """

    wall: float
    true_s: float = 0.0
    lived_s: float = 0.0
    walls: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)


class Oracle:
    """Plays a history to a world, and watches it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.running = set(TASKS)
        self.failed: dict[int, int] = dict.fromkeys(TASKS, 0)
        self.minutes = dict.fromkeys(TASKS, (720, 9))
        self.windows: dict[Key, Opened] = {}

    def play(self, history: list[Event]) -> None:
        for event in history:
            getattr(self, event.name)(*event.args)
            assert self.world.open() == set(self.windows), event

    # -- what happens

    def fail(self, task: int, kind: Retry, side: str) -> None:
        pause = self.world.fail(task, kind, side)  # type: ignore[arg-type]
        assert FIRST_S <= pause <= LONGEST_S
        if task in self.running:
            self.windows.setdefault((task, kind.value, str(side)), Opened(self.world.wall))

    def heal(self, task: int, side: str) -> None:
        if task in self.running:
            self.world.heal(task, side)  # type: ignore[arg-type]
            self._close(lambda key: key[0] == task and key[2] == side)

    def suspend(self, task: int) -> None:
        if task in self.running:
            self.world.suspend(task)
            self.running.remove(task)
            self._close(lambda key: key[0] == task)

    def resume(self, task: int) -> None:
        self.world.resume(task)
        self.running.add(task)

    def modify(self, task: int, connection_min: int, other_min: int) -> None:
        self.world.modify(task, connection_min, other_min)
        self.minutes[task] = (connection_min, other_min)

    def jump(self, seconds: float) -> None:
        self._look(sure=False)  # they look four times a second: what the clock showed before is known
        self.world.wall += seconds

    def hand_over(self) -> None:
        self.world.hand_over()

    def crash(self) -> None:
        self.world.crash()

    def stall(self) -> None:
        self.world.stall()
        for window in self.windows.values():
            window.true_s += STALL_S

    def restart(self) -> None:
        self.world.restart()

    def go(self, seconds: float) -> None:
        """Time goes by; schedulers look before, after the first second, and after the rest."""
        self._look(sure=False)
        first = min(seconds, SURE_S)
        self._advance(first)
        self._look(sure=False)
        if seconds > first + SURE_S:
            leader = self.world.leading()
            self._advance(seconds - first)
            lived = seconds - first
            before = set(self.windows)
            self._look(sure=leader is not None and leader == self.world.leading(), lived=lived, of=before)

    # -- what must hold

    def _advance(self, seconds: float) -> None:
        self.world.advance(seconds)
        for window in self.windows.values():
            window.true_s += seconds

    def _look(self, *, sure: bool, lived: float = 0.0, of: set[Key] = frozenset()) -> None:  # type: ignore[assignment]
        failed = self.world.tick()
        wall = self.world.wall
        for key, window in self.windows.items():
            window.walls.append(wall)
            if sure and key in of:
                window.lived_s += lived
                window.written.append(wall)
        assert failed <= self.running, "who rests or has ended does not fail"
        for task in self.running:
            mine = [(self._length(key) * 60.0, window) for key, window in self.windows.items() if key[0] == task]
            if task in failed:
                assert any(self._may(length, window, wall) for length, window in mine), f"{task} failed early: {mine}"
            elif sure:
                assert not any(self._must(length, window, wall) for length, window in mine), f"{task} goes on: {mine}"
        for task in failed:
            self.failed[task] += 1
            self.running.discard(task)
            self._close(lambda key, task=task: key[0] == task)  # type: ignore[misc]
        for task in TASKS:
            assert self.world.failures(task) == self.failed[task], "once, with one event"

    def _may(self, length: float, window: Opened, wall: float) -> bool:
        """Both clocks can have seen all of it: so much time has truly gone by, and the wall clock may think so."""
        return window.true_s >= length and wall - min(window.wall, *window.walls) >= length

    def _must(self, length: float, window: Opened, wall: float) -> bool:
        """Both clocks have seen all of it for sure."""
        return window.lived_s >= length and wall - min(window.wall, *window.written) >= length

    def _length(self, key: Key) -> int:
        task, kind, _ = key
        if kind == Retry.OTHER.value:
            return self.minutes[task][1]
        near = [
            other for other in self.running
            if other == task or SERVERS[other][0] == SERVERS[task][0] or SERVERS[other][1] == SERVERS[task][1]
        ]  # fmt: skip
        return min(self.minutes[other][0] for other in near)

    def _close(self, which: object) -> None:
        self.windows = {key: window for key, window in self.windows.items() if not which(key)}  # type: ignore[operator]
