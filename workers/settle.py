"""Settling: once caught up, bring expiries on the target to the source's time plus the extension.

The target itself says what is held (workers.expiry). A search finds it there; after that, keys written with a hold are
known from the stream. All writes are ordinary windows of the applier, the one writer; times are read while nothing of
ours is in flight, so they cannot change in between.

What the target does not say, the source is asked: the time below an inexact hold, and every time when the extension has
changed. Its answer is true at one offset of its stream. The stream is fed up to exactly there, and there the answer is
written: whatever the stream has done to the key by then, it has done at the source, too.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from workers.clock import Clock
from workers.compose import emit, select
from workers.expiry import held, hold, source_time
from workers.hashes import Fields, Hashes, Part
from workers.inquire import Inquiry
from workers.pending import Key, Pending
from workers.search import Search
from workers.source.ask import GONE, Times
from workers.target.claim import MIXED
from workers.target.expiries import Expiries, Expiry
from workers.target.windows import Chain, Window

BATCH = 1000
MOST_PENDING = 200_000
MOST_WAITING = 20_000
"""With so many keys past their time, no more are looked for until the source has deleted some."""
MOST_AT_LAST = 10_000
"""Keys that the last window may settle: with writers that go on there is always one that is held."""
WAIT_S = 1.0
"""A key that has expired on the source is looked at again after this long; its DEL comes by the stream."""
PATIENCE_S = 10.0
"""If the stream does not come to where an answer is true, the source is asked again."""


@dataclass(slots=True)
class Asked:
    """What the source says, to be written when the target has the stream up to exactly `said.at`."""

    db: int
    said: Times
    least: int  # no write before this offset is among them
    keys: list[tuple[Expiry, int]] = field(default_factory=list)  # with their offsets; either keys
    fields: Fields = field(default_factory=list)  # or fields of the hashes at hand
    by: float = field(default_factory=lambda: time.monotonic() + PATIENCE_S)


class Settler:
    """Knows which expiries are to be settled, and makes the windows that do it.

    Args:
        clock: says whether we are behind, and what the extension is; is told whether holds may be left.
        chain: of this connection; knows whether anything may be held so far.
        expiries: of the target.
        search: finds what was held before.
        inquiry: of the source.
    """

    def __init__(self, clock: Clock, chain: Chain, expiries: Expiries, search: Search, inquiry: Inquiry) -> None:
        self._clock, self._chain, self._expiries = clock, chain, expiries
        self._search, self._inquiry = search, inquiry
        self._pending = Pending()
        self._hashes = Hashes(clock, expiries)
        self._asked: Asked | None = None
        self._every = False  # times may carry another extension
        self._doubtful: set[Key] = set()  # those keys, as far as they are known
        self._wait_until = 0.0
        self._dirty = chain.held
        self._clock.unsettled = lambda: self._dirty

    # --- what is to be done

    def touch(self, db: int, key: bytes, offset: int, sure: bool) -> None:
        """A command at `offset` wrote a held expiry to `key` (sure), or may have moved one there."""
        if not sure and not self._dirty:
            return
        self._dirty = True
        self._pending.touch((db, key), offset)
        if self._every and not sure:
            self._doubtful.add((db, key))
        if len(self._pending) > MOST_PENDING:
            self.disturb(offset - 1)

    def disturb(self, before: int) -> None:
        """Keys may be anywhere: walk the target again, once it has what follows `before` in the stream."""
        if not self._dirty:
            return
        self._search.again(before, self._every)
        self._pending.clear()
        self._hashes.clear()
        self._doubtful.clear()
        self._asked = None

    def swap(self, databases: Collection[int], before: int) -> None:
        """As `disturb`, of target databases that are swapped: a source that does so often is settled all the same."""
        if not self._dirty:
            return
        self._search.again(before, self._every, databases)
        self._pending.drop(databases)
        if self._hashes.parts and self._hashes.parts[0].at[0] in databases:  # all are of one
            self._hashes.clear()
        self._doubtful = {at for at in self._doubtful if at[0] not in databases}
        if self._asked is not None and self._asked.db in databases:
            self._asked = None

    def extend(self, extend_ms: int, before: int) -> None:
        """From now on the extension is this. If it was another, settle every expiry once more, held or not.

        Args:
            before: stream offset behind the last command that was rewritten with the former one.
        """
        self._clock.extend_ms, former = extend_ms, self._clock.extend_ms
        if former == extend_ms == self._chain.extend_ms or (former == extend_ms and self._every):
            return
        self._chain.extend_ms = MIXED
        self._every = self._dirty = True
        self.disturb(before - 1)

    @property
    def limit(self) -> int | None:
        """The stream offset at which the target must have come to a stop, or None."""
        return None if self._asked is None else self._asked.said.at.offset

    @property
    def settled(self) -> bool:
        """Whether no expiry is looked for any more, and none carries another extension."""
        return not self._every and not self._search.wanted

    @property
    def dirty(self) -> bool:
        """Whether holds, or another extension, may be left."""
        return self._dirty

    def due(self) -> bool:
        """Whether there is something to do now."""
        if not self._dirty:
            return False
        tip = self._chain.tip[0]
        if self._asked is not None:
            if not self._void(self._asked):
                return tip == self._asked.said.at.offset
            self.give_up()
        if self._clock.holding or self._inquiry.away():
            return False
        if self._hashes.parts or self._pending.due(tip):
            return True
        if self._search.wanted and len(self._pending.waiting) < MOST_WAITING:
            return self._search.possible(tip)
        if self._pending.waiting:
            return time.monotonic() > self._wait_until
        return not len(self._pending)  # else the stream has to come so far first

    def state(self) -> tuple[int | None, int | None]:
        """(holds known, None while a walk is due; the offset up to which nothing is held, None likewise)."""
        if not self._dirty:
            return 0, 1 << 62
        if self._clock.to_the_end:
            return None, 1 << 62  # there is nothing to settle yet
        if self._search.wanted or self._clock.loading:
            return None, None
        asked = self._asked
        known = len(self._pending) + len(self._hashes.parts) + (len(asked.keys) if asked else 0)
        flying = self._chain.flying
        committed = flying[0].start if flying else self._chain.tip[0]
        least = min(self._pending.least(committed), self._hashes.least, asked.least if asked else 1 << 62)
        return known, least - 1

    def glance(self) -> None:
        """Keep an eye on the target's clock."""
        self._expiries.glance()

    # --- doing it

    def step(self) -> Window | None:
        """One batch, with nothing in flight: a window to commit, or None."""
        window = self._chain.own_window()
        if self._asked is not None:
            self._answer(window, self._asked)
        elif self._hashes.parts:
            self._part(window)
        elif batch := self._pending.eligible(window.end, BATCH):
            self._settle(window, batch)
        elif self._search.wanted and len(self._pending.waiting) < MOST_WAITING:
            if self._search.possible(window.end):
                self._look(window.end)
        elif self._pending.waiting:
            self._look_again()
        return window if self._nothing_left() or window.commands else None

    def _nothing_left(self) -> bool:
        """Whether something has come to its end that the checkpoint should say."""
        if self._search.wanted or self._hashes.parts or self._asked is not None:
            return False
        uniform = self._every and not self._doubtful
        if uniform:
            self._every = False
            self._chain.extend_ms = self._clock.extend_ms
        if not self._every and not len(self._pending):
            self._dirty = self._chain.held = False
        return uniform or not self._dirty

    def _look(self, tip: int) -> None:
        for at in self._search.step(tip):
            self._pending.find(at, 0)
            if self._every:
                self._doubtful.add(at)

    def _look_again(self) -> None:
        """Keys past their time: make the source notice, then look whether the DEL has come."""
        self._inquiry.touch(list(self._pending.waiting))
        self._pending.again()
        self._wait_until = time.monotonic() + WAIT_S

    def _settle(self, window: Window, batch: list[Key]) -> None:
        db = batch[0][0]
        unsure: list[Expiry] = []
        for found in self._expiries.read(db, [key for _, key in batch]):
            at, done = (db, found.key), True
            if held(found.when):
                exact_time, exact = source_time(found.when)
                if not exact:
                    unsure.append(found)
                    continue
                done = self._write(window, db, found, exact_time)
            elif found.when >= 0 and at in self._doubtful:
                unsure.append(found)
                continue
            self._end(db, found, self._pending.pop(at), done)
        if unsure:
            self._ask(db, unsure)

    def _end(self, db: int, found: Expiry, offset: int, done: bool) -> None:
        """A key's own time is done with; so is the key, unless its fields may have times."""
        at = (db, found.key)
        part = Part(at, offset, at in self._doubtful, done)
        if found.hashed:
            self._hashes.add(part)
        else:
            self._ended(part)

    def _ended(self, part: Part) -> None:
        if not self._pending.is_touched(part.at):  # else what the stream has put there since is doubtful anew
            self._doubtful.discard(part.at)
        if not part.done:
            self._pending.wait(part.at, part.offset)

    def _part(self, window: Window) -> None:
        """The next part of the hashes at hand."""
        db = self._hashes.parts[0].at[0]
        fields = self._hashes.read(window)
        said = self._inquiry.field_times(db, fields) if fields else None
        if said is not None:
            self._asked = Asked(db, said, self._hashes.least, fields=fields)
        elif not fields:
            self._turn()

    def _turn(self) -> None:
        for part in self._hashes.turn():
            self._ended(part)

    # --- asking the source

    def _ask(self, db: int, unsure: Sequence[Expiry]) -> None:
        """Of all or some of the keys."""
        said = self._inquiry.times(db, [found.key for found in unsure])
        if said is not None:
            keys = [(found, self._pending.pop((db, found.key))) for found in unsure[: len(said.times)]]
            self._asked = Asked(db, said, min(offset for _, offset in keys), keys)

    def _void(self, asked: Asked) -> bool:
        """Whether the answer cannot be used any more."""
        offset, _, replid = self._chain.tip
        goal = asked.said.at
        gone_by = offset > goal.offset or (offset == goal.offset and replid != goal.replid)
        return gone_by or self._clock.holding or time.monotonic() > asked.by

    @property
    def asked_a_master(self) -> bool:
        """As `Repair.asked_a_master`."""
        return self._asked is not None and not self._asked.said.replica

    def move(self, offset: int) -> None:
        """The answer is true at `offset`, too, and only there the stream can come to a stop."""
        assert self._asked is not None
        said = self._asked.said
        self._asked = replace(self._asked, said=replace(said, at=replace(said.at, offset=offset)))

    def give_up(self) -> None:
        """The target cannot stop where the answer is true: ask anew, later."""
        asked, self._asked = self._asked, None
        self._inquiry.rest()
        if asked is not None:
            for found, offset in asked.keys:
                self._pending.find((asked.db, found.key), offset)

    def _answer(self, window: Window, asked: Asked) -> None:
        """Put what the source has said; the target is just where the source was then."""
        self._asked = None
        if asked.fields:
            self._hashes.put(window, asked.db, asked.fields, asked.said.times)
            self._turn()
            return
        now = self._expiries.read(asked.db, [found.key for found, _ in asked.keys], hashes=False)
        for there, time_ms, (found, offset) in zip(now, asked.said.times, asked.keys, strict=True):
            self._end(asked.db, found, offset, self._put(window, asked.db, there, time_ms))

    def _put(self, window: Window, db: int, there: Expiry, time_ms: int) -> bool:
        """Settle one key by what the source says; False when it has to wait."""
        if there.when < 0:
            return True
        if time_ms == GONE:
            return not held(there.when)  # its DEL follows; if it is not held, it may be a key of the target's own
        if time_ms == -1:
            _emit(window, db, [b"PERSIST", there.key])
            return True
        return self._write(window, db, there, time_ms)

    def _write(self, window: Window, db: int, there: Expiry, time_ms: int) -> bool:
        """Settle one key; False when its time has come on the source, whose DEL must do the rest."""
        plain = self._clock.key(time_ms)
        done = self._clock.ahead(plain)
        wanted = plain if done else hold(time_ms)
        if wanted != there.when:
            _emit(window, db, [b"PEXPIREAT", there.key, b"%d" % wanted])
            window.held |= held(wanted)
        return done

    # --- the end

    def closable(self) -> bool:
        """Whether what is left fits into one window."""
        busy = self._asked is not None or self._hashes.parts or self._clock.holding
        return self.settled and not busy and len(self._pending) <= MOST_AT_LAST

    def last(self, window: Window) -> bool:
        """Put all that is held as it is at the source, though its time may be over: nothing follows that renews it.

        False when something is not known for sure yet; the window is of no use then.
        """
        # Also those that the stream touches behind this window, and so never will: they may have been held before.
        keys = self._pending.all()
        for db in {db for db, _ in keys}:
            for found in self._expiries.read(db, [key for other, key in keys if other == db]):
                at = (db, found.key)
                if held(found.when):
                    time_ms, exact = source_time(found.when)
                    if not exact and at not in self._pending.waiting:
                        return False
                    _emit(window, db, [b"PEXPIREAT", found.key, b"%d" % self._clock.key(time_ms)])
                if found.hashed:
                    self._hashes.last(window, at)
        return True

    def close(self) -> None:
        self._expiries.close()


def _emit(window: Window, db: int, command: list[bytes]) -> None:
    select(window, db, window.end)
    emit(window, command, window.end)
