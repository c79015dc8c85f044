"""Two who take the target in turn."""

from __future__ import annotations

import time
from collections.abc import Callable

TURN_S = 0.05


class Turns:
    """Args:
    clock: seconds of a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._over_at, self._mine = 0.0, False

    def mine(self) -> bool:
        """Whether it is the turn of whoever asks; both get as much time."""
        now = self._clock()
        if now >= self._over_at:
            self._over_at, self._mine = now + TURN_S, not self._mine
        return self._mine
