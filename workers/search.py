"""Looking for expiries that nobody has named: in the chunks just loaded, else all over the target."""

from __future__ import annotations

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
        self._files = None if files is None else list(files)
        self._named: list[Key] = []  # by a file
        self._walk: list[int] | None = None  # databases still to scan
        self._cursor = 0
        self._behind = -1

    def again(self, before: int, every: bool) -> None:
        """Walk the target, once it has what follows `before` in the stream.

        Args:
            every: find all that has an expiry; else what is held.
        """
        self._behind, self._every = before, every
        self.wanted, self._files, self._named, self._walk = True, None, [], None

    def possible(self, tip: int) -> bool:
        """Whether it is wanted, and the target, which has the stream up to `tip`, has come far enough."""
        return self.wanted and tip > self._behind

    def step(self) -> list[Key]:
        """Some keys with such an expiry, or hashes whose fields may have one. Not `wanted` any more: that was all."""
        return self._scan() if self._files is None else self._read_file(self._files)

    def _read_file(self, files: list[tuple[int, Path]]) -> list[Key]:
        if not self._named and files:
            db, path = files.pop()
            if not still_intact(path):  # it was when it was loaded: nobody knows what it named
                self._files = None
                return []
            self._named = [(db, key) for key in volatile_keys(path)]
        found = self._named[-BATCH:]
        del self._named[-BATCH:]
        self.wanted = bool(self._named or files)
        return found

    def _scan(self) -> list[Key]:
        if self._walk is None:
            self._walk = self._expiries.databases(self._scope)
            self._cursor = 0
        if not self._walk:
            self.wanted, self._walk = False, None
            return []
        db = self._walk[0]
        self._cursor, keys = self._expiries.scan(db, self._cursor, BATCH)
        times = self._expiries.read(
            db, [k for k in keys if not k.startswith(KEY_PREFIX) and self._scope.ours(db, k)]
        )
        if self._cursor == 0:
            self._walk.pop(0)
        return [(db, e.key) for e in times if e.hashed or (e.when >= 0 if self._every else held(e.when))]
