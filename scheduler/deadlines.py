"""Counting the time in which windows were open; pure, without a database or clock."""

from __future__ import annotations

from datetime import datetime

Mark = tuple[int, datetime]
"""Id and opening of a window: SQLite gives the ids of closed ones again."""

FLUSH_S = 1.0
"""How often the time seen is written."""


class Deadlines:
    """Remembers which windows were open when it looked last, for as long as this process leads."""

    def __init__(self) -> None:
        self._known: set[Mark] = set()
        self._last: float | None = None

    def look(self, found: set[Mark], now: float) -> tuple[set[Mark], float]:
        """Windows that have been open since the last flush, and seconds to add to what was seen of them.

        Args:
            found: those that are open now.
            now: lived time in seconds.
        """
        if self._last is None:
            self._known, self._last = found, now
        passed = now - self._last
        if passed < FLUSH_S:
            return set(), 0.0
        lived = self._known & found
        self._known, self._last = found, now
        return lived, passed

    def forget(self) -> None:
        """This process leads no more: until it does again, another counts."""
        self._known, self._last = set(), None
