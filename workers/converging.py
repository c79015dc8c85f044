"""Whether what is copied beside a stream (`workers.adding`) comes any nearer to where that stands."""

from __future__ import annotations

from collections.abc import Callable

from sync_tasks.units import size
from workers.saying import said

MOST_ROUNDS = 5
"""After so many rounds that have left no less than the least so far it does not, as things are."""


class Converging:
    """Of one owner's addition. Rounds are counted, and bytes of the stream: no clock says how long one may take.

    Args:
        tell: an event for people: kind and text.
    """

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._told = False  # once
        self.anew()

    def anew(self) -> None:
        """It begins, or has caught up."""
        self._least, self._rounds = 0, 0  # bytes that were left at best, 0: not known; rounds since

    def round(self, left: int) -> None:
        """One begins, when the stream has gone on by `left` bytes of which nothing was put so far."""
        if not self._least or left < self._least:
            self._least, self._rounds = left, 0
        else:
            self._rounds += 1
            if self._rounds >= MOST_ROUNDS and not self._told:
                self._told = said(
                    self._tell, "not-converging",
                    f"the write rate of the source is higher than one connection copies beside its stream: {size(left)}"
                    f" of that are behind, no less than {self._rounds} rounds ago. The replication lag grows, and with"
                    " it the log on disk, and the task is not in sync, until the source writes to fewer keys, or"
                    " throttle.incremental lets more pass",
                )  # fmt: skip
