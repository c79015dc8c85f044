"""Keys that the target may not have right are copied anew from the source, all at one offset of its stream (DESIGN 6).

A command that the target refuses at run time (WRONGTYPE) is committed with the rest of its window, so it is never sent
again. Whoever reads the refusal, or takes over and cannot prove that there was none to read, doubts every key that the
stream names behind `seen`, up to the checkpoint. Then

    aim     the source is asked for all of them at once; keys that commands up to that offset join with them (RENAME,
            LMOVE, SUNIONSTORE, ...) are doubted as well, and all are asked anew, until none is joined any more
    go on   the stream is applied up to exactly there; what becomes of doubted keys on the way does not matter
    put     the values are written there, in one window; `seen` moves only then, so that a death on the way doubts
            them all again
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sync_tasks.errors import CannotContinue, ConnectionLost, RefusedCommand, Side
from workers.compose import emit, select
from workers.keys_of import Command, Key, keys_of
from workers.rewrite import Rewriter
from workers.scope import Scope
from workers.source.ask import Source, Values
from workers.spool.commands import commands
from workers.spool.log import Log
from workers.target.claim import Checkpoint
from workers.target.link import TargetLink
from workers.target.windows import Window

MOST_BYTES = 128 << 20
"""Of values that are put in one window: the target holds them twice for a moment."""
PATIENCE_S = 30.0
"""If the stream does not come to where the values are true, the source is asked again."""
SKEW_S = 5.0
"""A replica hides a key whose time has passed by its own clock; for so long its master may still renew it."""
STEP_S = 0.05


def _nowhere() -> ConnectionLost:
    what = "the stream does not come to where the source has answered; it is asked again"
    return ConnectionLost(what, side=Side.SOURCE)


class Repair:
    """The doubted keys of one connection's life.

    Args:
        link: to the target, nothing of it in flight until the values are known.
        log: covers the stream from `found.seen` on.
        source: asked for the values.
        scope: databases that travel.
        found: the checkpoint that was claimed.
        pause: sleeps so many seconds; raises when the job is to stop.
    """

    def __init__(
        self,
        link: TargetLink,
        log: Log,
        source: Source,
        scope: Scope,
        found: Checkpoint,
        pause: Callable[[float], None],
    ) -> None:
        self._link, self._log, self._source, self._scope = link, log, source, scope
        self._found, self._pause = found, pause
        self._hidden: dict[Key, float] = {}  # keys that a replica does not show, and since when
        self._by = 0.0
        self.keys: set[Key] = set()
        self._names: set[bytes] = set()
        self.said: Values | None = None
        self.put_in: Window | None = None  # the window that has the values

    # --- aim

    def doubt(self) -> bool:
        """Doubt what the stream names between `seen` and the checkpoint. Whether there is any key."""
        found = self._found
        for (_, argv), places in keys_of(self._link, self._named(found.seen, found.offset, found.seen_db)):
            self._swap(argv)
            self._add(places)
        return bool(self.keys)

    def aim(self) -> None:
        """Ask for the values. Raises CannotContinue if they are too large, and what the source and the log raise."""
        offset, db = self._found.offset, self._found.db
        while True:
            asked = sorted(self.keys)
            self._check_size(asked)
            said = self._source.values(asked)
            self._await(said)
            db = self._join(offset, said.at.offset, db)
            offset = said.at.offset
            if self.keys == set(asked) and self._is_sure(said):
                self.said, self._by = said, time.monotonic() + PATIENCE_S
                return

    def _check_size(self, asked: list[Key]) -> None:
        sizes = self._source.sizes(asked)
        if sum(sizes) > MOST_BYTES:
            largest = asked[sizes.index(max(sizes))]
            raise CannotContinue(
                f"{len(asked)} keys were to be copied anew, of {sum(sizes) >> 20} MB in all; the largest is"
                f" {largest[1][:100].decode(errors='backslashreplace')} in database {largest[0]}",
                side=Side.TARGET,
                hint="restart the task: so much is copied by a new full sync only",
            )

    def _await(self, said: Values) -> None:
        """Wait for the stream on disk to reach where the values are true."""
        by = time.monotonic() + PATIENCE_S
        while not self._log.covers(said.at.replid, said.at.offset):
            if time.monotonic() > by or said.at.offset < self._found.offset:
                raise _nowhere()
            self._pause(STEP_S)

    def _join(self, start: int, stop: int, db: int) -> int:
        """Doubt what the commands between two offsets join with doubted keys; the stream's database behind them."""
        for command in self._named(start, stop, db):
            db = command[0]
            self._swap(command[1])
            if not self._names.isdisjoint(command[1]):
                _, places = next(keys_of(self._link, [command]))
                if not places.isdisjoint(self.keys):
                    self._add(places)
        return db

    def _named(self, start: int, stop: int, db: int) -> Iterator[Command]:
        return commands(self._log, start, stop, db, lambda: self._pause(STEP_S))

    def _add(self, places: set[Key]) -> None:
        places = {(db, key) for db, key in places if self._scope.target(db) is not None}
        self.keys |= places
        self._names |= {key for _, key in places}

    def _swap(self, argv: list[bytes]) -> None:
        if argv[0].upper() == b"SWAPDB":
            one, two = int(argv[1]), int(argv[2])
            other = {one: two, two: one}
            self.keys = {(other.get(db, db), key) for db, key in self.keys}

    def _is_sure(self, said: Values) -> bool:
        """Whether what is not there is gone: a replica also hides what its master has not deleted yet."""
        if not said.replica:
            return True
        now = time.monotonic()
        gone = {key for key, value in zip(sorted(self.keys), said.values, strict=True) if value is None}
        self._hidden = {key: self._hidden.get(key, now) for key in gone}
        if all(now - since > SKEW_S for since in self._hidden.values()):
            return True
        self._pause(10 * STEP_S)
        return False

    # --- go on, and put

    @property
    def limit(self) -> int | None:
        """The offset at which the stream must come to a stop; None: the values are on their way."""
        return self.said.at.offset if self.said is not None and self.put_in is None else None

    def covers(self, refused: list[RefusedCommand]) -> None:
        """Raise the first of the commands refused on the way that is of keys which are not under repair."""
        mine = {(self._scope.target(db), key) for db, key in self.keys}
        for error, (_, places) in zip(refused, keys_of(self._link, [(e.db, e.argv) for e in refused]), strict=True):
            if not places or not places <= mine:
                raise error

    def reached(self, tip: tuple[int, int, str]) -> bool:
        """Whether the target is to be just where the values are true. Raises ConnectionLost if it never will."""
        assert self.said is not None
        offset, _, replid = tip
        at = self.said.at
        if offset == at.offset and replid == at.replid:
            return True
        if offset >= at.offset or time.monotonic() > self._by:
            raise _nowhere()
        return False

    def put(self, window: Window, rewriter: Rewriter) -> None:
        """Write the values; the stream stands where they are true."""
        assert self.said is not None
        at, said = self.said.at.offset, self.said
        for (db, key), value, when in zip(sorted(self.keys), said.values, said.times, strict=True):
            if value is not None:
                rewriter.put(db, key, value, when, said.exact, at, window)
                continue
            target = rewriter.scope.target(db)
            assert target is not None
            select(window, target, at)
            emit(window, [b"UNLINK", key], at)
        self.put_in = window
