"""The data set of a model server: databases of strings, lists and hashes, and all that was done, to be undone."""

from __future__ import annotations

from typing import Any

Value = bytes | list[bytes] | dict[bytes, bytes]
At = tuple[int, bytes]
"""Database and key."""


class Data:
    """Databases with a journal: a unit of it (one command, or one EXEC) is done as a whole and undone as a whole."""

    def __init__(self) -> None:
        self.dbs: list[dict[bytes, Any]] = [{} for _ in range(4)]
        self.times: dict[At, int] = {}  # expiries, ms
        self.units: list[dict[At, tuple[Any, int | None]]] = []  # of each, what was there before
        self._unit: dict[At, tuple[Any, int | None]] = {}
        self.watched: dict[At, list[Any]] = {}  # the connections that watch a key

    def change(self, db: int, key: bytes) -> None:
        """It is about to be written: remember what it is, spoil who watches it."""
        at = (db, key)
        if at not in self._unit:
            value = self.dbs[db].get(key)
            self._unit[at] = (value.copy() if isinstance(value, list | dict) else value, self.times.get(at))
        if at in self.watched:
            self.spoil(at)

    def spoil(self, at: At) -> None:
        for connection in self.watched.get(at, ()):
            connection.dirty = True

    def remove(self, db: int, key: bytes) -> bool:
        """Whether it was there."""
        if key not in self.dbs[db]:
            return False
        self.change(db, key)
        del self.dbs[db][key]
        self.times.pop((db, key), None)
        return True

    def commit(self) -> None:
        """A unit is complete."""
        if self._unit:
            self.units.append(self._unit)
            self._unit = {}

    def roll_back(self, units: int) -> None:
        """Fall back to what it was so many units ago. Watched keys that were there are spoiled, as by a full resync."""
        for _ in range(min(units, len(self.units))):
            for (db, key), (value, when) in self.units.pop().items():
                if key in self.dbs[db]:
                    self.spoil((db, key))
                self._put(db, key, value, when)

    def _put(self, db: int, key: bytes, value: Any, when: int | None) -> None:
        if value is None:
            self.dbs[db].pop(key, None)
        else:
            self.dbs[db][key] = value
        if when is None:
            self.times.pop((db, key), None)
        else:
            self.times[db, key] = when

    def contents(self) -> list[dict[bytes, Any]]:
        """What is the user's in each database."""
        return [{k: v for k, v in db.items() if not k.startswith(b"keyferry:")} for db in self.dbs]
