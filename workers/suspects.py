"""Suspects: keys that the target has expired by itself, while the source renewed them.

On the target a key lives for `extend_expiry_s` longer than at the source. If the link is down, nothing of ours runs, or
the target stands still for longer than that, a renewal comes too late. The commands in between name every such key.

    look    before anything behind the checkpoint is sent, the source says up to where it has written, the log is
            awaited up to there, and the target is asked about every key named in between
    hold    what is there still, and has a time, is given the hold: it cannot vanish any more before its command comes
    doubt   what is missing there, and is renewed or joined with another key in between, is copied anew
            (`workers.repair`). What is neither may have been missing rightly: if not, the source's DEL follows

While its doubts are not done with, the checkpoint keeps `seen` and `fresh` as they were. Whoever goes on after a death
looks from `seen` on; of what is executed already, nothing that the target has proves anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from sync_tasks.names import KEY_PREFIX
from workers.clock import Clock
from workers.compose import emit, select
from workers.expiry import REAL, REAL_FIELD, held, hold, hold_field
from workers.keys_of import Key, keys_of
from workers.mentions import Kind, fields_of, kind_of
from workers.reach import reach
from workers.scope import Scope
from workers.settle import Settler
from workers.source.ask import Source
from workers.spool.commands import commands
from workers.spool.log import Log
from workers.target.claim import Checkpoint
from workers.target.expiries import Expiries, Expiry
from workers.target.windows import Chain, Window, commit
from workers.wanted import Wanted

BATCH = 1000
"""Keys that the target is asked about at once."""
MOST_KNOWN = 300_000
"""Keys of which is remembered what is known; the target is asked anew about others."""
MOST_DOUBTED = 200_000
STEP_S = 0.05
TRIES = 5

_MADE, _THERE, _MISSING, _HASH, _BLURRED = range(5)
"""What is known of a key: the stream has made it; the target has it, for good; has not; has it, and it may have times
of fields; the stream has changed it, perhaps on a target where it was missing."""


class Behind(Exception):
    """What follows is to be looked at first: the connection's life ends, and another begins.

    Args:
        offset: of the target, if all its answers up to there came in time; else -1.
    """

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


class Suspects:
    """The looks of one connection's life; nothing is in flight whenever a method is called.

    Args:
        chain: writes the holds.
        log: of the stream.
        source: says up to where it has written.
        scope: databases that travel.
        clock: says what is too late.
        expiries: of the target.
        settler: told of what is held.
        pause: sleeps so many seconds; raises when the job is to stop.
    """

    def __init__(
        self, chain: Chain, log: Log, source: Source, scope: Scope, clock: Clock, expiries: Expiries,
        settler: Settler, pause: Callable[[float], None],
    ) -> None:  # fmt: skip
        self._chain, self._log, self._source, self._scope, self._clock = chain, log, source, scope, clock
        self._expiries, self._settler, self._pause = expiries, settler, pause
        self.active = False  # something was looked at in this life
        self.covered = 0  # up to this offset, all that is named has been looked at
        self._at, self._db = 0, 0  # how far this look has come, and the stream's database there
        self._tip = 0
        self._began = 0.0  # the source's stream up to where we look was written after that, monotonic s
        self._swapped: dict[int, int] = {}  # database now to what it was at the tip
        self._known: dict[int, int] = {}  # by the key's hash
        self._blurred = False  # also of keys that are not known nothing is sure
        self._asked: dict[Key, Kind] = {}  # to be asked about
        self._fields: dict[Key, dict[bytes, Kind]] = {}
        self._doubted: set[Key] = set()
        self._told: set[Key] = set()  # those of them that were returned

    # --- looking

    def look(self, found: Checkpoint, executed: bool) -> set[Key]:
        """The doubted keys named behind the checkpoint, and before it.

        Args:
            found: where the target stands.
            executed: whether what lies between `seen` and the checkpoint may have been executed too late.
        Raises what source, target and log raise; Wanted if there are too many.
        """
        offset = self._live()
        self.begin(found.offset, found.db)
        if executed:
            self._walk_executed(found)
        return self.upto(offset, self._began)

    def begin(self, offset: int, db: int) -> None:
        """A look from where the target stands now."""
        self.active = True
        self._at = self._tip = offset
        self._db, self._swapped, self._known, self._blurred = db, {}, {}, False
        self._asked, self._fields, self._doubted, self._told = {}, {}, set(), set()

    def again(self, offset: int, db: int, stop: int, began: float) -> set[Key]:
        """A look goes on, or another begins, up to `stop`, to which the source had not come at the moment `began`.

        Where the target stands at the end of the last look, what follows was written since. If that is not long ago, it
        comes in time as in any other life, or `Behind` is raised: nothing is to be looked at. Else a source that goes
        on naming new keys would never be done with.
        """
        if offset == self._at != self._tip and self._is_recent:
            self._at, self._tip, self._began = stop, -1, began
            return set()
        if offset != self._tip:
            self.begin(offset, db)
        return self.upto(stop, began)

    def move(self, stop: int, behind: int) -> None:
        """What lies between these offsets, where a look has ended, names no key."""
        if self._at == stop:
            self._at = behind
        if self.covered == stop:
            self.covered = behind

    def upto(self, stop: int, began: float) -> set[Key]:
        """What is doubted for the first time; the databases' numbers are those where the target stands."""
        self._began = began
        for db, argv, places in self._named(self._at, stop, self._db):
            if argv[0].upper() == b"SWAPDB":
                one, two = int(argv[1]), int(argv[2])
                was = self._swapped.get
                self._swapped = {**self._swapped, one: was(two, two), two: was(one, one)}
            elif places:
                fields = fields_of(argv)
                for other, key in places:
                    self._mention((self._swapped.get(other, other), key), kind_of(argv), fields)
                if len(self._asked) >= BATCH:
                    self._ask()
            self._db = db
        self._ask()
        self._at = self.covered = max(self._at, stop)
        new, self._told = self._doubted - self._told, set(self._doubted)
        return new

    def _walk_executed(self, found: Checkpoint) -> None:
        """What was executed at a moment nobody knows; a key made there may have vanished since."""
        for _, argv, places in self._named(found.seen, found.offset, found.seen_db):
            if argv[0].upper() == b"SWAPDB":
                self._rename(int(argv[1]), int(argv[2]))
                continue
            for at in places:
                if kind_of(argv) > Kind.CHANGES:
                    self._doubt(at)
                else:
                    self._know(at, _BLURRED)

    def _rename(self, one: int, two: int) -> None:
        other = {one: two, two: one}
        self._doubted = {(other.get(db, db), key) for db, key in self._doubted}
        self._blurred, self._known = True, {}

    def _named(self, start: int, stop: int, db: int) -> Iterator[tuple[int, list[bytes], set[Key]]]:
        stream = commands(self._log, start, stop, db, lambda: self._pause(STEP_S))
        for (at, argv), places in keys_of(self._chain.link, stream, self._source.named):
            yield at, argv, {place for place in places if self._scope.takes(*place)}

    def _live(self) -> int:
        """The offset up to which the source has written, by now on disk: nothing behind it is older than this moment,
        or as much older as the look allows for."""
        for _ in range(TRIES):
            self._began = time.monotonic()
            at = self._source.position()
            reach(self._log, at, self._pause)
            if not self._took_long:
                break
        return at.offset

    # --- what is known of keys

    @property
    def _wide(self) -> bool:
        """Whether a key that has vanished may be renewed only behind where this look ends."""
        return self._clock.extend_ms == 0 or self._took_long

    @property
    def _is_recent(self) -> bool:
        """Whether what was written since the look began comes in time, and with some to spare."""
        extended = min(self._clock.extend_ms, self._clock.former_ms) > 0
        return extended and (time.monotonic() - self._began) * 2000 < self._clock.lag_ms

    @property
    def _took_long(self) -> bool:
        return (time.monotonic() - self._began) * 1000 > self._clock.lag_ms

    def _know(self, at: Key, what: int) -> None:
        name = hash(at)
        if name in self._known or len(self._known) < MOST_KNOWN:
            self._known[name] = what
        elif what == _BLURRED:
            self._blurred = True

    def _doubt(self, at: Key) -> None:
        self._doubted.add(at)
        if len(self._doubted) > MOST_DOUBTED:
            raise Wanted(
                f"the stream stood still for longer than extend_expiry_s, and over {MOST_DOUBTED} keys that it names"
                " since are not on the target"
            )

    def _mention(self, at: Key, kind: Kind, fields: list[bytes]) -> None:
        if at in self._doubted:
            return
        if kind == Kind.MAKES:
            self._know(at, _MADE)
            return
        known = self._known.get(hash(at), _BLURRED if self._blurred else None)
        if known == _MADE:
            return
        sure = known == _THERE or (known == _HASH and kind < Kind.JOINS) or (known == _MISSING and kind == Kind.CHANGES)
        if kind == Kind.READS or (known is not None and not sure and kind != Kind.CHANGES):
            self._doubt(at)
            return
        if known is None or known == _BLURRED:
            self._asked[at] = max(kind, self._asked.get(at, kind))
        if fields and known != _MISSING:
            self._asked.setdefault(at, kind)
            names = self._fields.setdefault(at, {})
            names.update((name, max(kind, names.get(name, kind))) for name in fields)

    # --- asking the target

    def _ask(self) -> None:
        asked, self._asked = self._asked, {}
        fields, self._fields = self._fields, {}
        if self._clock.blind:  # the target may have them by other names
            for at in asked:
                self._doubt(at)
            return
        for db in {db for db, _ in asked}:
            target = self._scope.target(db)
            assert target is not None
            keys = [key for other, key in asked if other == db and not key.startswith(KEY_PREFIX)]
            there, vanished = self._hold(target, self._expiries.read(target, keys))
            for one in there:
                self._judge((db, one.key), one, asked[db, one.key], one.key in vanished)
            hashes = [one.key for one in there if one.hashed and (db, one.key) in fields]
            self._look_at_fields(db, target, {key: fields[db, key] for key in hashes})

    def _judge(self, at: Key, there: Expiry, kind: Kind, vanished: bool) -> None:
        missing = there.when == -2
        if (missing and (kind > Kind.CHANGES or vanished or self._wide)) or (there.hashed and kind >= Kind.JOINS):
            self._doubt(at)
        elif self._known.get(hash(at)) not in (_BLURRED, _MADE):
            self._know(at, _MISSING if missing else _HASH if there.hashed else _THERE)

    def _hold(self, target: int, there: list[Expiry]) -> tuple[list[Expiry], set[bytes]]:
        """Hold what has a time; the keys as they are then, and which have vanished meanwhile."""
        running = [one for one in there if 0 <= one.when < REAL and not held(one.when)]
        window = self._chain.own_window()
        for one in running:
            written = hold(one.when - self._shift_ms, self._uniform)
            self._emit(window, target, [b"PEXPIREAT", one.key, b"%d" % written])
        self._commit(window)
        now = {one.key: one.when for one in self._expiries.read(target, [one.key for one in running], hashes=False)}
        after = [replace(one, when=now.get(one.key, one.when)) for one in there]
        return after, {key for key, when in now.items() if when == -2}

    def _look_at_fields(self, db: int, target: int, hashes: dict[bytes, dict[bytes, Kind]]) -> None:
        """Doubt hashes that lack a field which is renewed; hold the fields that are there."""
        asked = [(key, list(names)) for key, names in hashes.items()]
        before = self._expiries.times(target, asked)
        window = self._chain.own_window()
        for (key, names), times in zip(asked, before, strict=True):
            running = {name: when for name, when in zip(names, times, strict=True) if 0 <= when < REAL_FIELD}
            if running and not self._uniform:
                self._doubt((db, key))  # a held time of a field would be taken for the source's
                continue
            for name, when in running.items():
                written = hold_field(when - self._shift_ms)
                self._emit(window, target, [b"HPEXPIREAT", key, b"%d" % written, b"FIELDS", b"1", name])
        self._commit(window)
        after = self._expiries.times(target, asked) if window.commands else before
        for (key, names), times, now in zip(asked, before, after, strict=True):
            for name, when, when_now in zip(names, times, now, strict=True):
                missing = when_now == -2
                if missing and (when != -2 or hashes[key][name] > Kind.CHANGES or self._wide):
                    self._doubt((db, key))

    @property
    def _uniform(self) -> bool:
        """Whether every time on the target that is not held has the same extension, which is known."""
        return self._chain.extend_ms is not None and self._chain.extend_ms >= 0

    @property
    def _shift_ms(self) -> int:
        return max(0, self._chain.extend_ms or 0)

    def _emit(self, window: Window, target: int, command: list[bytes]) -> None:
        select(window, target, window.end)
        emit(window, command, window.end)
        window.held = True
        self._settler.touch(target, command[1], window.end, True)

    def _commit(self, window: Window) -> None:
        if window.commands:
            commit(self._chain, window)
