"""Databases or keys are added to a stream that goes on: they are copied beside it, then they are in scope.

    scan      the source is walked over; keys that are added are put on the target in windows of our own
    sweep     what we had brought there earlier, and the source has not any more, goes
    catch up  what the stream has named since is put once more, again and again, until that is little
    switch    one window says that all of it is in scope, and that what the stream has named since the last round is in
              doubt: `workers.repair` copies that anew, at exact offsets

Up to the switch the stream's own commands do not touch what is added, so it does not matter when a value is put, if
only the stream has passed the place where it was read before the switch comes. Always holds: a key that is added, that
the walk has passed, and that the stream does not name behind `base`, is on the target as at the source. For a key that
is there all through the walk is found by it, and one that is not was named.

How far it is stands in the checkpoint, in the windows that put the keys: whoever goes on after a death begins there,
and a target that falls back has what it says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from sync_tasks.extent import Extent
from sync_tasks.slots import written
from workers.added import CATCHING_UP, SCANNING, SWEEPING, Addition, Former, digest
from workers.aside import Kept
from workers.brought import Brought
from workers.codec.digest_cy import key_hash
from workers.compose import emit, select
from workers.converging import Converging
from workers.difference import Difference
from workers.keys_of import Key
from workers.merging import Merging
from workers.passed import Passed
from workers.reach import nowhere, reach
from workers.repair import MOST_BYTES, SKEW_S
from workers.rewrite import Rewriter
from workers.scope import Scope
from workers.source.ask import Position, Source
from workers.spool.known import Known
from workers.spool.log import Log
from workers.surplus import Surplus
from workers.target.claim import MIXED, Checkpoint
from workers.target.error_count import UNKNOWN, error_count
from workers.target.expiries import Expiries
from workers.target.windows import Chain, Window
from workers.wanted import Wanted

PHASES = (SCANNING, SWEEPING, CATCHING_UP)
SCANNED = 1000
"""Keys that one SCAN is asked for."""
BATCH = 500
BATCH_BYTES = 8 << 20
"""Of values that are asked for at once, as the source counts their memory; one may take up to `MOST_BYTES`."""
ROUND_BYTES = 4 << 20
"""When the stream has gone on by so much, what it named is put once more: the log behind that is kept."""
FEW = 1000
"""So many keys may be in doubt behind the switch."""
MOST_ROUNDS = 20
"""After so many rounds behind the walk the switch comes anyway."""
MOST_GONE = 50_000
MOST_TRIES = 3
STEP_S = 0.05
WAIT_S = 0.2
"""For what is another stream's still."""


class Adding:
    """One connection's part of an addition. Every step is taken with nothing in flight.

    Args:
        chain: writes the windows.
        log: of the stream.
        source: is walked over and asked for values.
        known: is told of what is put.
        expiries: walks over the target.
        rewriter: of all that there will be; what it holds is found by a walk later.
        so_far: what the stream acts on.
        found: the checkpoint that was claimed.
        former: what the task's run has copied before.
        pause: sleeps so many seconds; raises when the job is to stop.
        tell: an event for people: kind and text.
        earlier: of the connection before; where the checkpoint says that no other was in between, it is gone on from
            there. Connections may end all the time, where values come into scope.

    `step` raises Wanted, and what source, target and log raise.
    """

    def __init__(
        self,
        chain: Chain,
        log: Log,
        source: Source,
        known: Known,
        expiries: Expiries,
        rewriter: Rewriter,
        so_far: Scope,
        found: Checkpoint,
        former: Sequence[Extent],
        pause: Callable[[float], None],
        tell: Callable[[str, str], None],
        earlier: Adding | None = None,
    ) -> None:
        self._chain, self._log, self._source, self._known, self._expiries = chain, log, source, known, expiries
        self._rewriter, self._scope, self._so_far = rewriter, rewriter.scope, so_far
        self._difference = Difference(self._scope, so_far)
        self._merging = Merging(self._scope, self._difference)
        self._stream = Passed(log, chain.link, source.named, self._difference, pause)
        self._pause, self._tell = pause, tell
        self._converging: Converging = Converging(tell) if earlier is None else earlier._converging
        brought = Brought(known, former, self._difference)
        self._surplus = Surplus(source, self._scope, so_far, self._difference, brought, self._follow, tell)
        self.over = False  # the window that switches has been pushed
        # Whether it may go on now, if it has begun; asked with nothing in flight.
        self.may: Callable[[bool], bool] = lambda _: True
        self._again_at = 0.0  # when it is asked once more
        state = Addition.parse(found.adding, self._scope.extent)
        start, self._again = log.start, state is not None
        given = Addition.parse(found.adding)  # of whichever extent
        self._initial = given is not None and given.initial
        if state is not None and (start is None or start > state.base or state.base > found.offset):
            state = None  # what was named since cannot be told any more
        self._state = state
        self._page: list[tuple[Key, int]] = []  # to be put, and the bytes of each
        self._sent = 0  # so many of them are in the last window
        self._said = state  # by the last window
        self.said = found.adding  # the same as the checkpoint has it
        self._before: tuple[Addition | None, Addition | None] = (None, None)  # said, and the state, before that
        self._began = state  # the state at the beginning of the last step
        self._read = state.read if state is not None else 0
        self._replica = False
        self._then: Addition | None = None  # behind that
        self._run = error_count(chain.link, chain.ck).partition(":")[0]  # the target's process
        self._rounds = 0
        self._sure_at = 0.0
        self._goals: list[int] | None = None  # target databases to be swept, and where in the first of them
        self._cursor, self._gone = 0, list[bytes]()
        if earlier is not None and state is not None and state in (earlier._said, earlier._before[0]):
            self._go_on(earlier, lost=state != earlier._said)
        elif state is not None and state.phase == CATCHING_UP and source.is_replica():
            self._sure_at = time.monotonic() + SKEW_S  # what it hid before is not known any more
        if self._state is not None and self._state.extend_ms != rewriter.clock.extend_ms:
            self._state = replace(self._state, extend_ms=MIXED)
            self._then = self._then and replace(self._then, extend_ms=MIXED)
        self._first = self._state  # of this connection

    def _go_on(self, earlier: Adding, lost: bool) -> None:
        """The last window of an earlier connection is on the target, or was `lost`; all before it are there."""
        self._state, self._then = earlier._before[1] if lost else earlier._state, earlier._then
        self._page = earlier._page[0 if lost else earlier._sent :]
        self._rounds, self._sure_at, self._replica = earlier._rounds, earlier._sure_at, earlier._replica
        self._read = earlier._read
        if self._run == earlier._run != UNKNOWN and not lost:
            self._goals, self._cursor, self._gone = earlier._goals, earlier._cursor, earlier._gone

    @property
    def base(self) -> int:
        """The stream offset from which on the log is needed."""
        return self._chain.tip[0] if self._state is None else self._state.base

    def due(self) -> bool:
        """Whether there is something to do now."""
        if time.monotonic() < self._again_at:
            return False
        if self.over or self._state is None or self._state.phase != CATCHING_UP or len(self._page) > self._sent:
            return not self.over
        long = self._is_long() and not self._is_there  # by and by, lest it is too much at once
        return long or self._chain.tip[2] != self._state.replid or self._may_switch()

    def _may_switch(self) -> bool:
        """Whether the stream has come to where the last value was read, so that none has more of it than that: else
        what follows would take effect twice. A replica hides what its master has not deleted yet, and may still renew.
        """
        return self._is_there and time.monotonic() >= self._sure_at

    @property
    def _is_there(self) -> bool:
        return self._chain.tip[0] >= self._read

    def step(self) -> Window | None:
        """The next window, if this step needs one; the last one is committed."""
        if not self.may(self._state is not None):
            self._again_at = time.monotonic() + WAIT_S
            return None
        del self._page[: self._sent]
        self._sent, self._began = 0, self._state
        if self._state is None:
            return self._begin(0)
        if self._chain.tip[2] != self._state.replid:
            return self._begin(self._state.tries)  # what was read of the one before may have been lost with it
        if self._page:
            return self._put(self._state)
        if self._is_long() or self._state.phase == CATCHING_UP:
            return self._catch_up(self._state)
        self._converging.anew()
        return self._scan(self._state) if self._state.phase == SCANNING else self._sweep(self._state)

    @property
    def went_on(self) -> bool:
        """Whether the source has answered in this connection, and the target has, more than was there at its beginning:
        what stood in the way then does not any more."""
        first, now = self._first, self._said
        if first is None or now is None:
            return now is not None and now.keys > 0
        return now.keys > first.keys or PHASES.index(now.phase) > PHASES.index(first.phase)

    def _is_long(self) -> bool:
        return self._chain.tip[0] - self.base > ROUND_BYTES

    # --- begin

    def _begin(self, tries: int) -> Window:
        if tries > MOST_TRIES:
            raise Wanted("what is added is emptied or swapped again and again while it is copied")
        offset, db, replid = self._chain.tip
        at, full = self._source.full()
        self._follow(at, offset)
        todo = [one for one in full if self._difference.adds(one)]
        extend_ms, number = self._rewriter.clock.extend_ms, self._state.number if self._state else 0
        self._state = Addition(
            digest(self._scope.extent), offset, db, replid, extend_ms, phase=SCANNING if todo else SWEEPING,
            todo=todo, tries=tries, number=number, again=self._again or self._state is not None,
            slots=written(self._difference.slots), initial=self._initial,
        )  # fmt: skip
        self._goals, self._gone, self._rounds, self._page, self._sent = None, [], 0, [], 0
        self._converging.anew()
        names = ", ".join(map(str, todo)) or "none that holds keys"
        self._tell("adding", f"what was added is copied beside the stream; databases of the source: {names}")
        window = self._mark(self._chain.own_window())
        if self._state.slots:
            emit(window, [b"SET", self._chain.taken, self._chain.tok], window.end)
        return window

    def _mark(self, window: Window) -> Window:
        """Say in the checkpoint how far it is."""
        assert self._state is not None
        self._before = (self._said, self._began)
        self._said = self._state = replace(self._state, number=self._state.number + 1, read=self._read)
        self.said = self._state.text
        select(window, self._chain.db, window.end)
        emit(window, [b"HSET", self._chain.ck, b"adding", self.said.encode()], window.end)
        return window

    # --- scan

    def _scan(self, state: Addition) -> Window | None:
        db = state.todo[0]
        run, at, cursor, names = self._source.walk(db, state.cursor, SCANNED)
        self._follow(at, state.base)
        if state.run not in ("", run):
            return self._begin(state.tries)
        mine = [(db, name) for name in names if self._difference.has(db, name)]
        then = state.walked(run, cursor, len(mine))
        if not mine:
            self._state = then
            return None
        self._known.put({db: b"".join(key_hash(name, self._known.seed) for _, name in mine)})
        self._turn(mine, then)
        return None

    def _follow(self, at: Position, base: int) -> None:
        """What was read is the stream's, and not older than `base`."""
        if at.offset < base:
            raise nowhere()  # a replica that lags
        reach(self._log, at, self._pause)
        self._read = max(self._read, at.offset)

    def _turn(self, keys: list[Key], then: Addition) -> None:
        """Put these keys; behind them it is so far."""
        keys = sorted(set(keys))
        self._page = list(zip(keys, self._source.sizes(keys), strict=True))
        self._then = then
        for (db, key), size in self._page:
            if size > MOST_BYTES:
                name = key[:100].decode(errors="backslashreplace")
                raise Wanted(f"{name} of database {db}, which takes {size >> 20} MB, is added")

    def _put(self, state: Addition) -> Window:
        size = count = 0
        while count < len(self._page) and count < BATCH and (count == 0 or size + self._page[count][1] <= BATCH_BYTES):
            size += self._page[count][1]
            count += 1
        keys = [key for key, _ in self._page[:count]]
        assert self._then is not None
        said = self._source.values(keys)
        self._follow(said.at, self._then.base)
        gone = [key for key, value in zip(keys, said.values, strict=True) if value is None]
        left = self._left(state, gone)
        window = self._chain.own_window()
        at = window.end
        for (db, key), value, when in zip(keys, said.values, said.times, strict=True):
            if value is not None:
                whole = value.whole() if isinstance(value, Kept) else value
                self._rewriter.put(db, key, whole, when, said.exact, at, window)
                continue
            if said.replica:
                self._sure_at = time.monotonic() + SKEW_S
            if (db, key) in left:
                self._rewriter.remove(db, key, at, window)
        self._sent = count
        if count == len(self._page):
            self._state = replace(self._then, number=state.number)
        return self._mark(window)

    def _left(self, state: Addition, gone: list[Key]) -> set[Key]:
        """Those of keys which are gone at the source that have a place of their own on the target, or had it last."""
        shared = {at: others for at in gone if (others := self._merging.others(at))}
        left = set(gone) - shared.keys()
        if not shared:
            return left
        places, there = sorted({other for others in shared.values() for other in others}), set[Key]()
        for db in sorted({db for db, _ in places}):
            names = [key for other, key in places if other == db]
            position, said = self._source.there_at(db, names)
            self._follow(position, state.base)
            there |= {(db, name) for name, found in zip(names, said, strict=True) if found}
        offset, number, _ = self._chain.tip
        mixed = any(self._difference.had(*place) for place in places)  # else it does not matter who was named last
        before = self._stream.names(state.base, offset, state.db) if mixed else ()
        behind = self._stream.names(offset, self._read, number) if mixed else ()
        return left | set(self._merging.left(list(shared), there, before, behind))

    # --- sweep

    def _sweep(self, state: Addition) -> Window | None:
        if self._goals is None:
            self._replica = self._source.is_replica()
            self._hide()  # its walk has hidden keys, too
            self._known.fold(self._log, self._chain.tip[0])
            full = self._expiries.databases(self._scope)
            self._goals, self._cursor = [to for to in full if self._difference.sources(to)], 0
        if not self._goals:
            self._state = replace(state, phase=CATCHING_UP)
            return self._mark(self._chain.own_window())
        to = self._goals[0]
        cursor, names = self._expiries.scan(to, self._cursor, SCANNED)
        missing = self._surplus.missing(to, names, state.base)
        if missing:
            self._hide()
        gone, kept = list[bytes](), [*self._gone, *missing]
        if not cursor or len(kept) >= MOST_GONE:
            gone, kept = self._surplus.ours(to, kept, again=state.again, initial=self._initial), []
        self._cursor, self._gone = cursor, kept  # behind all that may raise: the next connection goes on from there
        if not cursor:
            self._goals.pop(0)
        if not gone:
            return None
        window = self._chain.own_window()
        some = 1 if self._scope.one_slot else BATCH  # keys of several slots are in no command
        for at in range(0, len(gone), some):
            select(window, to, window.end)
            emit(window, [b"UNLINK", *gone[at : at + some]], window.end)
        return self._mark(window)

    def _hide(self) -> None:
        if self._replica:
            self._sure_at = time.monotonic() + SKEW_S

    # --- catch up, and switch

    def _catch_up(self, state: Addition) -> Window | None:
        stretch = self._stream.changed((state.base, state.db), self._chain.tip)
        if stretch is None:
            return self._begin(state.tries + 1)
        found, offset, db = stretch
        last = state.phase == CATCHING_UP and self._is_there and offset == self._chain.tip[0]
        if last and self._may_switch() and (len(found) <= FEW or self._rounds >= MOST_ROUNDS):
            return self._switch(state)
        self._rounds += last
        if state.phase == CATCHING_UP and offset == self._chain.tip[0]:
            self._converging.anew()  # the switch comes: `MOST_ROUNDS`
        else:
            self._converging.round(self._chain.tip[0] - state.base)
        then = replace(state, base=offset, db=db, keys=state.keys + len(found))
        if found:
            if self._goals:  # it may have come again
                named = {key for at, key in found if self._scope.target(at) == self._goals[0]}
                self._gone = [key for key in self._gone if key not in named]
            self._turn(sorted(found), then)
            return None
        self._state = then
        return self._mark(self._chain.own_window())

    def _switch(self, state: Addition) -> Window:
        """From here on all is in scope. Of what the stream has named behind `base`, what is added is in doubt."""
        window = self._chain.own_window()
        window.held = True  # what was put may be held: it is looked for
        former = Former(self._so_far.extent.text, window.end, window.db)
        select(window, self._chain.db, window.end)
        emit(window, [b"HSET", self._chain.ck, *self._scope.fields, b"adding", former.text.encode()], window.end)
        if state.extend_ms != self._chain.extend_ms:
            self._chain.extend_ms = MIXED
        self._chain.seen, self._chain.seen_db, self._chain.errors = state.base, state.db, UNKNOWN
        self.over = True
        count = f"{state.keys} keys were copied, some of them perhaps more than once"
        self._tell("added", f"{count}; what was added is in scope behind offset {window.end}")
        return window
