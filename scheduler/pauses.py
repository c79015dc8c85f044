"""Pauses that outlast a jump of the wall clock; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sync_tasks.retry_policy import LONGEST_S

STEADY_S = 1.0
"""By so much the wall clock may differ from lived time between two looks: we were kept waiting, that is all."""

Held = Sequence[tuple[float, float]]
"""Ranges of wall time, without the first and with the last moment: pauses that end in there are not over."""


@dataclass(frozen=True, slots=True)
class Jump:
    """The wall clock would have shown `wall` at lived time `at`, and showed another time."""

    wall: float
    at: float


class Pauses:
    """Compares the wall clock, by which ends of pauses are written, with the time that this process lives through.

    An end that was written before a jump lies at most the longest pause behind what the clock showed then. Until that
    has gone by, such ends are judged by the clock as it would have gone on.
    """

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._jumps: list[Jump] = []

    def held(self, now: float, wall: float) -> Held:
        """Ends of pauses that are not over at lived time `now` (seconds), when the clock shows `wall`."""
        if self._last is not None:
            lived = now - self._last[0]
            steady = self._last[1] + lived
            if abs(wall - steady) > STEADY_S:
                self._jumps.append(Jump(steady, now))
        self._last = now, wall
        self._jumps = [jump for jump in self._jumps if now - jump.at < LONGEST_S]
        return [(jump.wall + now - jump.at, jump.wall + LONGEST_S) for jump in self._jumps]
