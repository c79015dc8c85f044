"""The connections by which one job asks its source."""

from __future__ import annotations

from collections.abc import Callable

from workers.source.ask import Source


class Sources:
    """Makes them, one for each thread, and knows them all.

    Args:
        make: one more.
    """

    def __init__(self, make: Callable[[], Source]) -> None:
        self._make = make
        self._made: list[Source] = []

    def new(self) -> Source:
        """One more."""
        made = self._make()
        self._made.append(made)
        return made

    def moved(self, address: str) -> None:
        """The source is at this address now. From any thread."""
        for one in list(self._made):
            one.moved(address)

    def close(self) -> None:
        for one in self._made:
            one.close()
