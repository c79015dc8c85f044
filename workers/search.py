"""Looking for expiries that nobody has named: in the chunks just loaded, else all over the target."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sync_tasks.names import KEY_PREFIX
from workers.expiry import held
from workers.pending import Key
from workers.scope import Scope
from workers.spool.chunks import volatile_keys
from workers.spool.sums import still_intact
from workers.target.expiries import Expiries

BATCH = 1000


class Search:
    """A search, one bounded step at a time; it may be asked for again.

    Args:
        expiries: of the target.
        scope: databases that travel.
        wanted: whether there may be anything to find.
        files: (target database, chunk file) of a load that has just been closed: its keys with expiries are all that
            is held so far. None: unknown, the target has to be walked.
    """

    def __init__(self, expiries: Expiries, scope: Scope, wanted: bool, files: list[tuple[int, Path]] | None) -> None:
        self._expiries, self._scope = expiries, scope
        self.wanted = wanted
        self._every = False
        self._files = [] if files is None else list(files)
        self._named: list[Key] = []  # by a file
        self._listed = files is not None  # no database is to be walked but those of `_walk`
        self._behind = -1
        self._walk: dict[int, int] = {}  # databases still to scan, and the cursor of each
        self._behind_in: dict[int, int] = {}  # of those that are not to be scanned before

    def again(self, before: int, every: bool, databases: Collection[int] | None = None) -> None:
        """Walk the target, once it has what follows `before` in the stream.

        Args:
            every: find all that has an expiry; else what is held.
            databases: of the target, to be walked anew; the search goes on as it was in the others. None: all.
        """
        if databases is None:
            self._behind, self._listed = before, False
            self._files, self._named, self._walk, self._behind_in = [], [], {}, {}
        else:
            self._files = [(db, path) for db, path in self._files if db not in databases]
            self._named = [(db, key) for db, key in self._named if db not in databases]
            self._walk.update(dict.fromkeys(databases, 0))
            self._behind_in.update(dict.fromkeys(databases, before))
        self.wanted, self._every = True, every

    def possible(self, tip: int) -> bool:
        """Whether it is wanted, and the target, which has the stream up to `tip`, has come far enough."""
        if not self.wanted:
            return False
        if self._files or self._named:
            return True
        if not self._listed:
            return tip > self._behind or self._next(tip) is not None
        return not self._walk or self._next(tip) is not None

    def step(self, tip: int) -> list[Key]:
        """Some keys with such an expiry, or hashes whose fields may have one. Not `wanted` any more: that was all, and
        all that was found before is settled on the target, as nothing is in flight at a step.

        Args:
            tip: the target has the stream up to it.
        """
        if self._files or self._named:
            return self._read_file()
        if self._walk or not self._listed:
            return self._scan(tip)
        self.wanted = False
        return []

    def _read_file(self) -> list[Key]:
        if not self._named:
            db, path = self._files.pop()
            if not still_intact(path):  # it was when it was loaded: nobody knows what it named
                self._files, self._listed = [], False
                return []
            self._named = [(db, key) for key in volatile_keys(path)]
        found = self._named[-BATCH:]
        del self._named[-BATCH:]
        return found

    def _scan(self, tip: int) -> list[Key]:
        if not self._listed and tip > self._behind:
            self._walk = dict.fromkeys(self._expiries.databases(self._scope), 0) | self._walk
            self._listed = True
        if (db := self._next(tip)) is None:
            return []
        self._walk[db], keys = self._expiries.scan(db, self._walk[db], BATCH)
        times = self._expiries.read(
            db, [k for k in keys if not k.startswith(KEY_PREFIX) and self._scope.ours(db, k)]
        )
        if self._walk[db] == 0:
            del self._walk[db]
            self._behind_in.pop(db, None)
        return [(db, e.key) for e in times if e.hashed or (e.when >= 0 if self._every else held(e.when))]

    def _next(self, tip: int) -> int | None:
        """A database that can be scanned."""
        return next((db for db in self._walk if tip > self._behind_in.get(db, -1)), None)
