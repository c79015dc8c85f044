"""Settling: once caught up, bring every held expiry on the target to the source's time plus the extension.

The target itself says what is held (workers.expiry). A pass walks it by SCAN; after that, keys written with a hold are
known from the stream. All writes are ordinary windows of the applier, the one writer; times are read while nothing of
ours is in flight, so they cannot change in between.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from sync_tasks.errors import KeyferryError, Retry
from sync_tasks.names import KEY_PREFIX
from workers.codec.resp_cy import encode
from workers.expiry import FIELD_HOLD, held, held_field, source_time
from workers.source.ask import Source
from workers.spool.chunks import volatile_keys
from workers.target.claim import Checkpoint
from workers.target.expiries import Expiries
from workers.target.windows import Chain, Run, Window

if TYPE_CHECKING:
    from workers.apply import Applier

BATCH = 1000
MOST_PENDING = 200_000
WAIT_S = 1.0
"""A key that has expired on the source is looked at again after this long; its DEL comes by the stream."""

Key = tuple[int, bytes]


class Settler:
    """Knows which expiries are held, and makes the windows that settle them.

    Args:
        applier: whose clock, scope and connections are used.
        chain: of this connection.
        found: the checkpoint: whether anything may be held, and from which offset on.
        loaded: (target database, chunk file) of a load that this very connection has closed: its keys with expiries
            are all that is held so far. None: unknown, the target has to be walked.
    """

    def __init__(
        self, applier: Applier, chain: Chain, found: Checkpoint, loaded: list[tuple[int, Path]] | None
    ) -> None:
        self._clock, self._chain = applier.clock, chain
        self._source: Source = applier.source
        self._expiries = Expiries(applier.endpoint, applier.home, applier.fields)
        self._scope = applier.scope
        self._pending: dict[Key, int] = {}  # to the stream offset of its last held write
        self._asked: list[tuple[Key, int, int, int, int]] = []  # key, time on target, low, high, source's time
        self._waiting: dict[Key, int] = {}
        self._wait_until = 0.0
        self._dirty = found.held
        self._walk: list[int] | None = None  # databases still to scan
        self._cursor = 0
        self._files = list(loaded or [])
        self._scan_wanted = found.held
        self._clock.unsettled = lambda: self._dirty
        self._known = loaded is not None
        self._offset = found.offset
        self._scan_from = -1
        self._source_away_until = 0.0

    def touch(self, db: int, key: bytes, offset: int, sure: bool) -> None:
        """A command at `offset` wrote a held expiry to `key` (sure), or may have moved one there."""
        if not sure and not self._dirty:
            return
        self._dirty = True
        self._waiting.pop((db, key), None)
        self._pending[db, key] = offset
        if len(self._pending) > MOST_PENDING:
            self._pending.clear()
            self.disturb(offset - 1)

    def disturb(self, before: int) -> None:
        """Held keys may be anywhere: walk the target again, once it has what follows `before` in the stream."""
        if self._dirty:
            self._scan_from = before
            self._asked.clear()
            self._scan_wanted, self._walk, self._known = True, None, False

    def due(self) -> bool:
        """Whether there is something to do now."""
        if not self._dirty or self._clock.holding:
            return False
        if time.monotonic() < self._source_away_until:
            return False
        if self._can_scan() or self._eligible(1) or self._answerable():
            return True
        if self._scan_wanted or self._pending or self._asked:
            return False  # the stream has to come so far first
        return not self._waiting or time.monotonic() > self._wait_until

    def _can_scan(self) -> bool:
        return self._scan_wanted and self._chain.tip[0] > self._scan_from

    def _eligible(self, most: int) -> list[Key]:
        """Pending keys of one database whose write is behind us already."""
        tip = self._chain.tip[0]
        keys = list(islice((at for at, offset in self._pending.items() if offset <= tip), most))
        return [at for at in keys if at[0] == keys[0][0]]

    def _answerable(self) -> bool:
        return bool(self._asked) and min(a[3] for a in self._asked) <= self._chain.tip[0]

    def state(self) -> tuple[int | None, int | None]:
        """(holds known, None while a walk is due; the offset up to which nothing is held, None likewise)."""
        if not self._dirty:
            return 0, 1 << 62
        if self._scan_wanted or self._clock.loading:
            return None, None
        offsets = [*self._pending.values(), *self._waiting.values(), *(a[2] for a in self._asked)]
        return len(offsets), min(offsets, default=1 << 62) - 1

    def step(self) -> Window | None:
        """One batch, with nothing in flight: a window to commit, or None."""
        window = self._chain.own_window()
        self._offset = window.end
        if self._answerable():
            self._answer(window)
        elif batch := self._eligible(BATCH):
            self._settle(window, batch)
        elif self._scan_wanted:
            if self._can_scan():
                self._scan()
        elif self._waiting:
            self._look_again()
        elif not self._pending and not self._asked:
            self._dirty = False
            self._chain.held = False
            return window
        return window if window.commands else None

    def _scan(self) -> None:
        """Find more of what is held: in the chunks just loaded, else by walking the target."""
        if self._known:
            self._read_file()
        else:
            self._scan_target()

    def _read_file(self) -> None:
        if not self._files:
            self._scan_wanted = False
            return
        db, path = self._files.pop()
        for key in volatile_keys(path):
            self._pending.setdefault((db, key), self._offset)

    def _scan_target(self) -> None:
        if self._walk is None:
            self._walk = self._expiries.databases(self._scope)
            self._cursor = 0
        if not self._walk:
            self._scan_wanted, self._walk = False, None
            return
        db = self._walk[0]
        self._cursor, keys = self._expiries.scan(db, self._cursor, BATCH)
        keys = [k for k in keys if not k.startswith(KEY_PREFIX)]
        for key, when, fields in self._expiries.read(db, keys):
            if held(when) or any(held_field(t) for t in fields.values()):
                self._pending.setdefault((db, key), self._offset)
        if self._cursor == 0:
            self._walk.pop(0)

    def _settle(self, window: Window, batch: list[Key]) -> None:
        db = batch[0][0]
        unsure: list[tuple[Key, int]] = []
        for key, when, fields in self._expiries.read(db, [key for _, key in batch]):
            at = (db, key)
            offset = self._pending.pop(at)
            done = self._fields(window, db, key, fields)
            if held(when):
                exact_time, exact = source_time(when)
                if not exact:
                    unsure.append((at, when))
                    self._pending[at] = offset
                    continue
                done = self._write(window, db, key, exact_time) and done
            if not done:
                self._waiting[at] = offset
        if unsure:
            with self._patience():
                self._ask(db, unsure)

    def _ask(self, db: int, unsure: list[tuple[Key, int]]) -> None:
        """Exact times of keys whose expiry came as a relative one; applied once the stream has got there."""
        answer = self._source.times(self._source_db(db), [key for (_, key), _ in unsure])
        for (at, when), exact in zip(unsure, answer.times, strict=True):
            offset = self._pending.pop(at)
            if offset <= answer.low:
                self._asked.append((at, when, answer.low, answer.high, exact))
            else:
                self._pending[at] = offset

    def _source_db(self, target: int) -> int:
        databases = self._scope.databases
        return target if databases is None else next(s for s, t in databases.items() if t == target)

    def _answer(self, window: Window) -> None:
        """Put the times asked for, unless the stream has touched the key since."""
        ready = [a for a in self._asked if a[3] <= window.end]
        self._asked = [a for a in self._asked if a[3] > window.end]
        for db in {a[0][0] for a in ready}:
            some = {a[0][1]: a for a in ready if a[0][0] == db}
            for key, when, _ in self._expiries.read(db, list(some)):
                at, asked, low, _, exact = some[key]
                if self._pending.get(at, 0) > low or when != asked:
                    continue  # written anew: whatever it carries now is looked at on its own
                self._pending.pop(at, None)
                if exact == -1:
                    self._emit(window, db, [b"PERSIST", key])
                elif exact == -2 or not self._write(window, db, key, exact):
                    self._waiting[at] = low

    def _fields(self, window: Window, db: int, key: bytes, fields: dict[bytes, int]) -> bool:
        done = True
        for field, when in fields.items():
            if not held_field(when):
                continue
            plain = when - FIELD_HOLD + self._clock.extend_ms
            if plain > self._clock.target_now() + 1000:
                self._emit(window, db, [b"HPEXPIREAT", key, b"%d" % plain, b"FIELDS", b"1", field])
            else:
                done = False
        return done

    def _write(self, window: Window, db: int, key: bytes, exact: int) -> bool:
        """Settle one key; False when its time has come on the source, whose DEL must do the rest."""
        plain = exact + self._clock.extend_ms
        if plain <= self._clock.target_now() + 1000:
            return False
        self._emit(window, db, [b"PEXPIREAT", key, b"%d" % plain])
        return True

    def _emit(self, window: Window, db: int, command: list[bytes]) -> None:
        for argv in ([[b"SELECT", b"%d" % db]] if window.selected != db else []) + [command]:
            window.runs.append(Run(window.commands, len(window.body), window.end, False))
            window.body += encode(argv)
            window.commands += 1
        window.selected = db
        window.databases.add(db)

    def _look_again(self) -> None:
        """Keys past their time: make the source notice, then look whether the DEL has come."""
        with self._patience():
            for db in {at[0] for at in self._waiting}:
                keys = [key for at, key in self._waiting if at == db]
                for start in range(0, len(keys), BATCH):
                    self._source.touch(self._source_db(db), keys[start : start + BATCH])
        self._pending, self._waiting = self._waiting, {}
        self._wait_until = time.monotonic() + WAIT_S

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """A source that does not answer now is asked again later: the receiver watches over it, not we."""
        try:
            yield
        except KeyferryError as error:
            if error.retry is Retry.FATAL:
                raise
            self._source_away_until = time.monotonic() + WAIT_S

    def close(self) -> None:
        self._expiries.close()
