"""The list of the keys that were brought to the target, made anew from the source where it was lost.

A host with a spool of its own that takes a stream over has no such list, nor has one whose disk has lost it. What the
target has at some offset is what the source had there: keys that were there all through a walk over the source, which
finds them, however long it takes, and keys that came into being since the walk began, which the log names. So the list
is whole once the target has come to where the walk ended, and for as long as it does not fall back to before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator

from sync_tasks.errors import KeyferryError, SourceError
from workers.codec.digest_cy import key_hash
from workers.scope import Scope
from workers.source.ask import Source
from workers.spool.known import Known
from workers.spool.log import Log
from workers.target.claim import STREAMING, Checkpoint

logger = logging.getLogger(__name__)

SCANNED = 1000
"""Keys that one SCAN is asked for: the source is held up for less than a millisecond."""
BATCH_BYTES = 1 << 20
ROUNDS = 5
"""So often the walk is made anew because databases were swapped meanwhile."""
TURN_S = 0.03
Steps = Iterator[bool]
"""Of the work; each says whether there is nothing to do but to wait."""
REST_S = 60.0
"""What went wrong is tried again after this long."""
LEAST_REST_S, REST = 1.0, 10
"""What came to nothing is tried again after so many times as long as it took, if that is less: a tenth of the time."""


class Census:
    """Of one node. Works a little at each turn, and only where the list is not whole.

    Args:
        source: is walked over; of our own.
        known: the list.
        log: behind the checkpoint.
        scope: databases that travel.
        checkpoint: reads the target's.
        tell: an event for people: kind and text.
    """

    def __init__(
        self,
        source: Source,
        known: Known,
        log: Log,
        scope: Scope,
        checkpoint: Callable[[], Checkpoint | None],
        tell: Callable[[str, str], None],
    ) -> None:
        self._source, self._known, self._log, self._scope = source, known, log, scope
        self._checkpoint, self._tell = checkpoint, tell
        self._work: Steps | None = None
        self._began = 0.0
        self._rest_until = 0.0
        self._committed = 0

    def turn(self, committed: int) -> None:
        """A little of it. Failures are told to the process's log alone: the stream does not need the list.

        Args:
            committed: offset up to which the target has the stream.
        """
        now = time.monotonic()
        if self._known.whole or now < self._rest_until:
            return
        self._committed = committed
        if self._work is None:
            self._work, self._began = self._count(), now
        rest = REST_S
        try:
            for waits in self._work:
                if waits or time.monotonic() - now > TURN_S:
                    return
            rest = min(REST_S, LEAST_REST_S + REST * (time.monotonic() - self._began))
        except KeyferryError as error:
            logger.warning("the list of keys that were brought to the target cannot be made: %s", error)
        self._work, self._rest_until = None, now + rest
        self.close()

    def close(self) -> None:
        self._source.close()

    def anew(self, scope: Scope) -> None:
        """Other databases travel; what was begun is begun again."""
        self._scope, self._work = scope, None
        self.close()

    def _count(self) -> Steps:
        found = self._checkpoint()
        if found is None or found.state != STREAMING:
            return
        if self._source.is_replica():
            raise SourceError("a replica hides keys that the target still has", hint="use its master as the source")
        self._known.renew(found.offset, found.db, found.gen)
        for _ in range(ROUNDS):
            start, keys = self._source.position(), 0
            hashes: dict[int, bytearray] = {}
            for db in self._source.databases():
                if self._scope.target(db) is not None:
                    keys += yield from self._walk(db, hashes)
            libraries, end = self._source.libraries(), self._source.position()
            self._known.put(hashes)
            if end.replid != start.replid:
                continue
            while self._known.offset is not None and min(self._committed, self._known.offset) < end.offset:
                yield True
                self._known.fold(self._log)
            if self._known.offset is None:
                return  # it could not be written
            # Else keys may have gone from where the walk was not yet to where it had been.
            if not self._known.swapped(start.offset, end.offset):
                self._known.complete(libraries, end.offset)
                self._tell("listed", f"the list of the keys on the target was made anew: the source has {keys}")
                return

    def _walk(self, db: int, hashes: dict[int, bytearray]) -> Generator[bool, None, int]:
        """Over one database; returns how many keys it has, some counted twice. `hashes`: to be put down.

        Many at once: what is put down waits for the disk, and meanwhile databases may be swapped.
        """
        cursor, keys = -1, 0
        while cursor != 0 and self._known.offset is not None:
            cursor, names = self._source.scan(db, max(cursor, 0), SCANNED)
            keys += len(names)
            mine = hashes.setdefault(db, bytearray())
            for name in names:
                mine += key_hash(name, self._known.seed)
            if sum(map(len, hashes.values())) >= BATCH_BYTES:
                self._known.put(hashes)
                hashes.clear()
            yield False
        return keys
