"""Tells what of the stream the target has no place for: at once, then once a minute for as long as it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable

from workers.saying import said

AGAIN_S = 60.0


class LeftOut:
    """Counts and tells.

    Args:
        event: records an event: kind and text.
    """

    def __init__(self, event: Callable[[str, str], None]) -> None:
        self._event = event
        self._counts: dict[str, tuple[int, bytes]] = {}  # of each kind how many, and the first key
        self._told_at: float | None = None

    def add(self, count: int, what: str, key: bytes) -> None:
        """So much of that kind, of this key."""
        before, first = self._counts.get(what, (0, key))
        self._counts[what] = before + count, first

    def tell(self) -> None:
        """To be called now and then. Raises Fenced."""
        now = time.monotonic()
        if not self._counts or (self._told_at is not None and now - self._told_at < AGAIN_S):
            return
        told = (
            f"{count} {what}, first of {first[:64].decode(errors='backslashreplace')}"
            for what, (count, first) in self._counts.items()
        )
        text = f"not carried, as the target's version has nothing like it: {'; '.join(told)}"
        if said(self._event, "left-out", text):
            self._counts, self._told_at = {}, now
