"""Time as the scheduler has lived through it."""

from __future__ import annotations

from collections.abc import Callable

LONGEST_STEP_S = 1.0


class LivedClock:
    """Seconds that this process has observed, in small steps.

    A step longer than a second means that we were stopped or the machine slept: owners of leases may have
    been stopped with us, so no more than a second of it counts against them.

    Args:
        monotonic: seconds of a clock that never goes back.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last = monotonic()
        self._lived = 0.0

    def skip(self) -> None:
        """What has gone by since the last step is not lived: nobody could write that he is alive, or works again."""
        self._last = self._monotonic()

    def step(self) -> float:
        """The lived time now, in seconds since the start."""
        now = self._monotonic()
        self._lived += min(max(now - self._last, 0.0), LONGEST_STEP_S)
        self._last = now
        return self._lived
