"""What is asked of a source that is followed by its notifications: its stream is the one that we write ourselves.

An answer is true at the end of the log as it was before it was asked for: all that is in there was read earlier, and
what comes behind is read later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sync_tasks.endpoints import Endpoint
from workers.source.ask import Hashes, Position, Source, Times, Values
from workers.told import Told

PATIENCE_S = 1.0


class Followed(Source):
    """Asks such a source.

    Args:
        endpoint: of it.
        told: what its notifications have told.
    """

    compares = True

    def __init__(self, endpoint: Endpoint, told: Told) -> None:
        super().__init__(endpoint)
        self.told = told

    def position(self) -> Position:
        return self.told.position()

    def offset(self) -> int:
        return self.told.offset(PATIENCE_S)

    def later(self, delay_ms: float | None) -> float | None:
        return None if delay_ms is None else delay_ms + self.told.age_ms()

    def full(self) -> tuple[Position, list[int]]:
        at = self.position()
        return at, super().full()[1]

    def walk(self, db: int, cursor: int, count: int) -> tuple[str, Position, int, list[bytes]]:
        at = self.position()
        run, _, after, keys = super().walk(db, cursor, count)
        return run, at, after, keys

    def there_at(self, db: int, keys: Sequence[bytes]) -> tuple[Position, list[bool]]:
        at = self.position()
        return at, super().there_at(db, keys)[1]

    def times(self, db: int, keys: Sequence[bytes]) -> Times:
        at = self.position()
        return replace(super().times(db, keys), at=at)

    def field_times(self, databases: Sequence[int], hashes: Hashes) -> Times:
        at = self.position()
        return replace(super().field_times(databases, hashes), at=at)

    def values(self, keys: Sequence[tuple[int, bytes]]) -> Values:
        at = self.position()
        return replace(super().values(keys), at=at)

    def touch(self, db: int, keys: list[bytes]) -> None:
        """Their time has come: whether they are gone is looked at, whatever the source has told."""
        for key in keys:
            self.told.touch((db, key))
