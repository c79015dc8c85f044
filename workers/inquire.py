"""Asking the source about single keys, with patience: the receiver watches over the source, not the settler."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

from sync_tasks.errors import KeyferryError, Retry
from workers.scope import Scope
from workers.source.ask import Hashes, Position, Source, Times

BATCH = 1000
AWAY_S = 1.0


class Inquiry:
    """Questions about keys by their place on the target.

    Args:
        source: who is asked.
        scope: databases that travel.
    Every method raises fatal errors; of others it says that there is no answer now.
    """

    def __init__(self, source: Source, scope: Scope) -> None:
        self._source, self._scope = source, scope
        self._away_until = 0.0

    def away(self) -> bool:
        """Whether the source has just not answered and is to be left alone for a while."""
        return time.monotonic() < self._away_until

    def rest(self) -> None:
        """Leave it alone for a while: what it said was of no use."""
        self._away_until = time.monotonic() + AWAY_S

    def times(self, db: int, keys: Sequence[bytes]) -> Times | None:
        """The source's expiries of keys of a target database, perhaps of the first ones alone."""
        with self._patience():
            homes = self._homes(db, keys)
            mine = list(takewhile(lambda home: home == homes[0], homes))
            return self._source.times(homes[0], keys[: len(mine)])
        return None

    def field_times(self, db: int, hashes: Hashes) -> Times | None:
        """The source's expiries of fields, hash by hash."""
        with self._patience():
            return self._source.field_times(self._homes(db, [key for key, _ in hashes]), hashes)
        return None

    def position(self) -> Position | None:
        """Up to where the source has written."""
        with self._patience():
            return self._source.position()
        return None

    def touch(self, keys: list[tuple[int, bytes]]) -> None:
        """Make the source notice that keys (target database, name) have expired."""
        with self._patience():
            for db in {db for db, _ in keys}:
                names = [name for other, name in keys if other == db]
                for start in range(0, len(names), BATCH):
                    for source in self._scope.sources(db):
                        self._source.touch(source, names[start : start + BATCH])

    def _homes(self, target: int, keys: Sequence[bytes]) -> list[int]:
        """Which of the source's databases has each key of a target database; of one that none has, any."""
        first, *others = self._scope.sources(target) or [target]
        homes = [first] * len(keys)
        for db in others:  # a key that several have is the last one's
            there = self._source.there(db, keys)
            homes = [db if found else home for home, found in zip(homes, there, strict=True)]
        return homes

    @contextmanager
    def _patience(self) -> Iterator[None]:
        try:
            yield
        except KeyferryError as error:
            if error.retry is Retry.FATAL:
                raise
            self.rest()
