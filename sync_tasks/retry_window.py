"""A retry window without its row: what two clocks have seen of it. Pure; time comes in as arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sync_tasks.errors import Retry
from sync_tasks.sharing import Shortest


@dataclass(frozen=True, slots=True)
class Window:
    """Since when the wall clock counts, and what schedulers have lived through since the opening.

    Either clock alone lies: the wall clock can jump, and the other stands while nothing of ours runs. How long the
    window is does not stand here: it follows the settings, and those of other tasks, as they are when it is asked.

    Args:
        wall_from: Unix seconds.
        seen_s: seconds of monotonic clocks.
    """

    wall_from: float
    seen_s: float = 0.0

    def lived(self, passed_s: float, wall: float) -> Window:
        """After a scheduler has seen so many more seconds; the wall clock shows `wall` then.

        A wall clock that shows a time before the window has been set back: it counts from there, else a window opened
        by a clock that was a year ahead would last for a year.
        """
        return Window(min(self.wall_from, wall), self.seen_s + passed_s)

    def is_past(self, length_s: float, wall: float) -> bool:
        """Whether both clocks have seen all of it."""
        return wall - self.wall_from >= length_s and self.seen_s >= length_s

    def left(self, length_s: float, wall: float) -> float:
        """Seconds until both will have, if neither jumps or stands; never more than the whole."""
        return min(length_s, max(0.0, self.wall_from + length_s - wall, length_s - self.seen_s))


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long a task's windows are at the moment: minutes."""

    connection: Shortest
    other_min: int

    def minutes(self, kind: str) -> int:
        """Of a kind of window, a `Retry`."""
        return self.connection.minutes if kind == Retry.CONNECTION else self.other_min


@dataclass(frozen=True, slots=True)
class Open:
    """One open window of a task."""

    id: int
    task_id: int
    kind: str  # a Retry
    window: Window


def past(windows: Iterable[Open], lengths: Mapping[int, Lengths], wall: float) -> dict[int, Open]:
    """Tasks that fail at wall time `wall`, each with the first of its windows that is past.

    All are judged by the same lengths: of two tasks that share a server and began to fail together, neither outlives
    the other because the other is no longer running.
    """
    found: dict[int, Open] = {}
    for one in windows:
        if one.window.is_past(lengths[one.task_id].minutes(one.kind) * 60.0, wall):
            found.setdefault(one.task_id, one)
    return found
