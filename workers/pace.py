"""How fast one worker may write: evenly, and never a burst of more than a tenth of a second's worth."""

from __future__ import annotations

import time
from collections.abc import Callable

from sync_tasks.throttle import Limits

BURST_S = 0.1
STEP_S = 0.05
"""Who waits looks around this often."""


class Pace:
    """Args:
    clock: seconds of a clock that never goes back.

    The generic cell rate algorithm: what is written moves the moment before which nothing more may be, and moments that
    passed unused are lost but for `BURST_S`. Source: ITU-T I.371, appendix I.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.limits = Limits()  # as of now; another thread may set it
        self._due = clock()

    def wait_s(self) -> float:
        """Seconds until something may be written; 0: now."""
        if self.limits.rps is None and self.limits.bytes_per_s is None:
            return 0.0
        return max(0.0, self._due - self._clock())

    def took(self, commands: int, size: int) -> None:
        """So many commands and bytes are written now."""
        rps, bytes_per_s = self.limits.rps, self.limits.bytes_per_s
        cost = max(commands / rps if rps else 0.0, size / bytes_per_s if bytes_per_s else 0.0)
        self._due = max(self._due, self._clock() - BURST_S) + cost

    def most(self, commands: int, size: int) -> tuple[int, int]:
        """How many commands and bytes to write at once, where so many would be without a limit."""
        rps, bytes_per_s = self.limits.rps, self.limits.bytes_per_s
        if rps is not None:
            commands = max(1, min(commands, int(rps * BURST_S)))
        if bytes_per_s is not None:
            size = max(1, min(size, int(bytes_per_s * BURST_S)))
        return commands, size

    def wait(self, check: Callable[[], object], sleep: Callable[[float], object] = time.sleep) -> None:
        """Until something may be written.

        Args:
            check: called now and then; what it raises ends the waiting.
        """
        while (left := self.wait_s()) > 0:
            check()
            sleep(min(left, STEP_S))
