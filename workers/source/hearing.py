"""The notifications of all servers that have keys of one source node: each tells of its own alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sync_tasks.endpoints import Endpoint
from workers.source.notices import Notices
from workers.told import Told


class Hearing:
    """A subscription to each.

    Args:
        places: the servers.
        told: told of each key.
        takes: whether a key of a database concerns anybody.
    """

    def __init__(self, places: Sequence[Endpoint], told: Told, takes: Callable[[int, bytes], bool]) -> None:
        self._told = told
        self._each = [Notices(place, told, takes) for place in places]

    def begin(self) -> None:
        """Return once all tell of every key. Raises as `Notices.begin`."""
        for one in self._each:
            one.begin()
        self._told.heard = self.heard

    def setting(self) -> None:
        """Raise as `Notices.setting` if one of them does not tell every key, or elsewhere than we listen."""
        for one in self._each:
            one.setting()

    def check(self) -> None:
        """Raise what has ended one of them."""
        for one in self._each:
            one.check()

    def heard(self, seconds: float) -> bool:
        """Wait until all is told that the servers had to tell when this was called; whether it is."""
        by = time.monotonic() + seconds
        return all(one.heard(max(0.0, by - time.monotonic())) for one in self._each)

    def stop(self) -> None:
        """End them."""
        for one in self._each:
            one.stop()
