"""How much of a spool is used, and by whom."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

EVERY_S = 30.0
"""Files are counted again after so long at the earliest: there may be many thousands."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """Bytes. `by_uid`: of files below the directory of each run, which is called by the task's `uid`."""

    used: int = 0
    by_uid: dict[str, int] = field(default_factory=dict)


class SpoolUse:
    """Counts the files of a spool.

    Args:
        spool: may not be there yet.
        clock: monotonic seconds.
    """

    def __init__(self, spool: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._spool = spool
        self._clock = clock
        self._counted: tuple[float, Spooled] | None = None

    def now(self) -> Spooled:
        """What was counted in the last EVERY_S seconds, else what is there."""
        now = self._clock()
        if self._counted is None or now - self._counted[0] >= EVERY_S:
            self._counted = now, self._count()
        return self._counted[1]

    def room(self) -> tuple[int, int] | None:
        """Free bytes and all bytes of the file system; None: it cannot be asked."""
        try:
            usage = shutil.disk_usage(self._spool)
        except OSError:
            return None
        return usage.free, usage.total

    def _count(self) -> Spooled:
        used, by_uid = 0, dict[str, int]()
        for place, _, files in os.walk(self._spool):
            here = sum(_size(os.path.join(place, name)) for name in files)
            used += here
            inside = os.path.relpath(place, self._spool).split(os.sep)[0]
            by_uid[inside] = by_uid.get(inside, 0) + here
        return Spooled(used, by_uid)


def _size(path: str) -> int:
    """0 if it was removed meanwhile."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
