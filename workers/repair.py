"""Keys that the target may not have right are copied anew from the source, at one offset of its stream.

A command that the target refuses at run time (WRONGTYPE) is committed with the rest of its window, so it is never sent
again. Whoever reads the refusal, or takes over and cannot prove that there was none to read, doubts every key that the
stream names behind `seen`, up to the checkpoint. Then, in rounds,

    aim     the source is asked for them all at once, which tells an offset; what commands up to there join with
            doubted keys (RENAME, LMOVE, SUNIONSTORE, ...) is doubted as well
    go on   the stream is applied up to exactly there; what becomes of doubted keys on the way does not matter
    put     the values are written there. Doubted is now what was joined and not asked for: the next round asks for
            it, and for the others once more, so that keys which carry doubt to each other in circles meet in one answer

until nothing is doubted. `seen` moves behind each round whose doubts were all asked for: whoever goes on after a death
doubts what is named from there on.

Keys that the target has expired too early (`workers.suspects`) are doubted, too, and mended in the same rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from sync_tasks.errors import ConnectionLost, Malformed, RefusedCommand, Side, named
from sync_tasks.names import KEY_PREFIX
from workers.added import Former
from workers.aside import LONG_BYTES, Kept
from workers.building import put
from workers.keys_of import Command, Key, keys_of, reads_more
from workers.pace import Pace
from workers.reach import PATIENCE_S, nowhere, reach
from workers.rewrite import SERVER_WIDE, WHOLE, Rewriter
from workers.scope import Scope
from workers.single import SINGLE
from workers.source.ask import Source, Values
from workers.spool.commands import commands
from workers.spool.log import Log
from workers.suspects import Suspects
from workers.target.claim import Checkpoint
from workers.target.link import TargetLink
from workers.target.windows import Window
from workers.wanted import Wanted

MOST_BYTES = 64 << 20
"""Of the values that are asked for at once, as the source counts their memory."""
MOST_HELD_BYTES = 8 << 20
"""Of those of them that are short, and stay in memory; long ones go to a file."""
SKEW_S = 5.0
"""A replica hides a key whose time has passed by its own clock; for so long its master may still renew it."""
HIDDEN_S = 60.0
"""If the keys that a replica does not show change for so long, something else is told: it is a failure."""
STEP_S = 0.05
MOST_DOUBTED = 500_000


class Repair:
    """The doubted keys of one connection's life.

    Args:
        link: to the target, nothing of it in flight whenever a method is called.
        log: covers the stream from `found.seen` on.
        source: asked for the values.
        scope: databases that travel.
        found: the checkpoint that was claimed.
        refused: the commands of one window whose refusals were read, if any were.
        suspects: looks at keys that the target may have expired too early.
        pause: sleeps so many seconds; raises when the job is to stop.
        tell: an event for people: kind and text.
        stood_in: the keys to be copied anew where another stands for a command, which is sure to be refused; empty:
            those that it names; None: none does.
        former: behind an addition: what was in scope up to where it ended, and has been in no doubt there.
    Raises one of `refused` if it names no key.

    Doubts that go on for ever (a source that goes on renaming keys into scope, say) are none the less mended round by
    round: `behind` is where the last ones come from, and moves with them.
    """

    def __init__(
        self,
        link: TargetLink,
        log: Log,
        source: Source,
        scope: Scope,
        found: Checkpoint,
        refused: Sequence[RefusedCommand],
        suspects: Suspects,
        pause: Callable[[float], None],
        tell: Callable[[str, str], None],
        stood_in: Callable[[list[bytes], int], frozenset[Key] | None] = lambda *_: None,
        former: tuple[Scope, Former] | None = None,
    ) -> None:
        self._link, self._log, self._source, self._scope = link, log, source, scope
        self._found, self._suspects, self._pause, self._tell = found, suspects, pause, tell
        self._stood_in, self._former = stood_in, former
        self._proven: set[tuple[int | None, bytes]] = set()  # by the target's databases
        for error, (_, places) in zip(refused, self._keys_of((e.db, e.argv) for e in refused), strict=True):
            self._proven |= self._ours(places)
            if error.argv[0].upper() in WHOLE:
                raise _not_emptied()
            if not places and b"NOSCRIPT" in error.message.encode():
                raise Wanted("the target has lost a script that the source calls by its digest")
            if not places:
                error.final = True
                raise error
        self._unread = not refused
        source.spool = log.directory
        self._hidden: dict[Key, float] = {}  # keys that a replica does not show, and since when
        self._by = 0.0
        self._tip = 0
        self._began = 0, 0  # offset and database where this round did
        self._swaps = False  # databases were swapped in it
        self._joined = False  # once
        self._asked: list[Key] = []
        self._said: Values | None = None
        self._doubted: set[Key] = set()
        self._again: set[Key] = set()  # asked for in the round before, and joined since
        self._recent: set[Key] = set()  # joined in this round
        self.behind: tuple[int, int] | None = None  # offset and database behind which all doubts come from
        self._names: set[bytes] = set()  # of the doubted keys, in any database
        self.keys: set[Key] = set()  # that are, or were, doubted
        self.put_in: Window | None = None  # the window that has the values

    # --- aim

    def doubt(self) -> bool:
        """Doubt what the stream names between `seen` and the checkpoint. Whether there is any key."""
        found, start, at = self._found, self._found.seen, self._found.seen_db
        if self._former is not None and start < self._former[1].at:
            self._doubt_added(*self._former)
            start, at = self._former[1].at, self._former[1].db
        for (db, argv), places in self._keys_of(self._named(start, found.offset, at)):
            if argv[0].upper() in self._scope.blocked:
                continue
            if self._link.scripted and self._unread and self._empties(argv, db):
                raise _not_emptied()
            if argv[0].upper() in SERVER_WIDE:
                self._tell("unverified", f"{named(argv)} may have been refused by the target when its owner died")
            self._swap(argv)
            stood_in = self._asked_of(argv, db)
            self._add(stood_in or places, refused=stood_in is not None)
            if len(self._doubted) > MOST_DOUBTED:
                raise Wanted(f"over {MOST_DOUBTED} keys would have to be copied anew")
        return bool(self._doubted)

    def _empties(self, argv: list[bytes], db: int) -> bool:
        name = argv[0].upper()
        return name == b"FLUSHALL" or (name == b"FLUSHDB" and self._scope.target(db) is not None)

    def _doubt_added(self, was: Scope, former: Former) -> None:
        """What the stream names and was added since: it was not applied."""
        named = self._named(self._found.seen, former.at, self._found.seen_db)
        for _, places in self._keys_of(named):
            self._add({(db, key) for db, key in places if not was.takes(db, key)}, refused=True)

    def _asked_of(self, argv: list[bytes], db: int) -> frozenset[Key] | None:
        try:
            return self._stood_in(argv, db)
        except (ValueError, IndexError) as e:
            raise Malformed(f"replication stream: {argv[0][:20]!r} with arguments that make no sense") from e

    def suspect(self, executed: bool) -> bool:
        """Doubt what the target may have expired too early, as `Suspects.look` does. Whether any key is doubted."""
        self._add(self._suspects.look(self._found, executed))
        return bool(self._doubted)

    def aim(self, offset: int, db: int) -> None:
        """Ask for the values; the target stands at `offset`, in the stream's database `db`.

        Raises Wanted if one is too large, and what the source and the log raise.
        """
        give_up = time.monotonic() + HIDDEN_S
        while True:
            self._asked = self._choose()
            began = time.monotonic()
            self._said = self._source.values(self._asked)
            self._await(self._said)
            if self._is_sure(self._said):
                break
            if time.monotonic() > give_up:
                raise ConnectionLost("the source, a replica, hides other keys all the time", side=Side.SOURCE)
            self._pause(10 * STEP_S)
        self.put_in, self._tip = None, offset
        # Doubts that were not asked for come from further back.
        self.behind = (offset, db) if self._doubted <= set(self._asked) else None
        self._recent = set()
        if self._suspects.active:
            self._add(self._suspects.again(offset, db, self._said.at.offset, began))
        self._began, self._swaps = (offset, db), False
        self._join(offset, db, self._said.at.offset)
        self._doubted -= set(self._asked)
        # Keys that carry doubt to each other in circles are joined in every round: they meet in one answer.
        self._again = self._recent & set(self._asked)
        self.keys = self._recent | set(self._asked) | self._doubted
        self._names = {key for _, key in self._doubted}
        self._by = time.monotonic() + PATIENCE_S

    def _choose(self) -> list[Key]:
        """What is asked for: the doubted keys first, then those that may be again, as long as there is room."""
        keys = [*sorted(self._doubted), *sorted(self._again - self._doubted)]
        sizes = dict(zip(keys, self._source.sizes(keys), strict=True))
        chosen: list[Key] = []
        room, here = MOST_BYTES, MOST_HELD_BYTES
        for key in keys:
            same = [one for one in self._scope.together(*key) if one in sizes]
            if same[0] != key:
                continue  # all that is one key on the target is asked for at once, or nothing of it
            size, held = sum(sizes[one] for one in same), sum(min(sizes[one], LONG_BYTES) for one in same)
            if size > MOST_BYTES:
                self._too_large(same, max(same, key=lambda one: sizes[one]), size)
            elif size <= room and held <= here:
                room, here = room - size, here - held
                chosen += same
        return sorted(chosen)

    def _too_large(self, same: list[Key], key: Key, size: int) -> None:
        what = f"{key[1][:100].decode(errors='backslashreplace')} of database {key[0]}, which takes {size >> 20} MB,"
        if (self._scope.target(key[0]), key[1]) in self._proven:
            raise Wanted(f"{what} was to be copied anew after a refused command, and is too large for that")
        if key in self._doubted:
            self._tell("unverified", f"{what} may have missed a command on the target; `keyferry verify` tells")
        self._doubted -= {*same}
        self.keys -= {*same}

    def _await(self, said: Values) -> None:
        """Wait for the stream on disk to reach where the values are true."""
        if said.at.offset < self._found.offset:
            raise nowhere()
        reach(self._log, said.at, self._pause)

    def _join(self, start: int, db: int, stop: int) -> None:
        """Doubt what the commands between two offsets join with doubted keys, and what unknown ones name."""
        for command in self._named(start, stop, db):
            db, argv = command
            if argv[0].upper() in self._scope.blocked:
                continue
            stood_in = self._asked_of(argv, db)
            if stood_in:
                self._add(set(stood_in), refused=True)
                continue
            # What it may read of doubted keys it need not name. Asked for again and again there would be no end of it.
            sure = stood_in is not None or (reads_more(argv) and not self._joined)
            if argv[0].upper() in SINGLE and not sure:
                continue
            self._swap(argv)
            if sure or not self._names.isdisjoint(argv):
                _, places = next(self._keys_of([command]))
                if sure or not places.isdisjoint(self._doubted):
                    self._add(places, refused=stood_in is not None)
        self._joined = True

    def _named(self, start: int, stop: int, db: int) -> Iterator[Command]:
        return commands(self._log, start, stop, db, lambda: self._pause(STEP_S))

    def _keys_of(self, commands: Iterable[Command]) -> Iterator[tuple[Command, set[Key]]]:
        return keys_of(self._link, commands, self._source.named)

    def _ours(self, places: set[Key]) -> set[Key]:
        """Those keys, by the target's databases, that are in scope."""
        return {at for at in places if self._scope.ours(*at)}

    def _add(self, given: Iterable[Key], *, refused: bool = False) -> None:
        """Doubt keys, and those that are the same one on the target. `refused`: what names them is, for certain."""
        mine = {at for at in given if self._scope.takes(*at) and not at[1].startswith(KEY_PREFIX)}
        places = {place for at in mine for place in self._scope.together(*at)}
        if refused:
            self._proven |= {(self._scope.target(db), key) for db, key in places}
        self._doubted |= places
        self._names |= {key for _, key in places}
        self._recent |= places
        self.keys |= places

    def _swap(self, argv: list[bytes]) -> None:
        if argv[0].upper() != b"SWAPDB":
            return
        self._swaps = True
        one, two = int(argv[1]), int(argv[2])
        other = {one: two, two: one}
        swapped = {(other.get(db, db), key) for db, key in self._doubted}
        self._doubted = {place for at in swapped for place in self._scope.together(*at)}
        self.keys |= self._doubted

    def _is_sure(self, said: Values) -> bool:
        """Whether what is not there is gone: a replica also hides what its master has not deleted yet."""
        if not said.replica:
            return True
        now = time.monotonic()
        gone = {key for key, value in zip(self._asked, said.values, strict=True) if value is None}
        self._hidden = {key: self._hidden.get(key, now) for key in gone}
        return all(now - since > SKEW_S for since in self._hidden.values())

    # --- go on, and put

    @property
    def limit(self) -> int | None:
        """The offset at which the stream must come to a stop; None: the values are on their way."""
        return self._said.at.offset if self._said is not None and self.put_in is None else None

    @property
    def asked_a_master(self) -> bool:
        """Whether the values are a master's: none but our own EXEC is missing where it says that its stream stands."""
        return self._said is not None and not self._said.replica

    def move(self, offset: int) -> None:
        """The values are true at `offset`, too, and only there the stream can come to a stop."""
        assert self._said is not None
        self._said = replace(self._said, at=replace(self._said.at, offset=offset))

    @property
    def done(self) -> bool:
        """Whether nothing is doubted any more, once the values are put."""
        return not self._doubted

    def covers(self, refused: Sequence[RefusedCommand]) -> None:
        """Doubt the keys of commands refused on the way that are not under repair: the next round asks for them. Raise
        the first one that names none, or whose keys may be of several of the source's databases."""
        mine = {(self._scope.target(db), key) for db, key in self.keys}
        more: set[Key] = set()
        for error, (_, places) in zip(refused, self._keys_of((e.db, e.argv) for e in refused), strict=True):
            others = self._ours(places) - mine
            if not places or (others and self._swaps) or any(len(self._scope.sources(db)) != 1 for db, _ in others):
                raise error
            more |= {(self._scope.sources(db)[0], key) for db, key in others}
            self._proven |= self._ours(places)
        if more:
            assert self._said is not None
            self._add(more, refused=True)
            self._join(*self._began, self._said.at.offset)

    def reached(self, tip: tuple[int, int, str]) -> bool:
        """Whether the target is to be just where the values are true. Raises ConnectionLost if it never will."""
        assert self._said is not None
        offset, _, replid = tip
        at, now = self._said.at, time.monotonic()
        if offset == at.offset and replid == at.replid:
            return True
        if offset > self._tip:
            self._tip, self._by = offset, now + PATIENCE_S
        if offset >= at.offset or now > self._by:
            raise nowhere()
        return False

    def put(self, window: Window, rewriter: Rewriter, pace: Pace) -> None:
        """Write the values; the stream stands where they are true.

        Args:
            pace: says how much may be written at once.
        """
        assert self._said is not None
        at, said = self._said.at.offset, self._said
        for (db, key), value in zip(self._asked, said.values, strict=True):
            if value is None:  # first: another database may have what is the same key on the target
                rewriter.remove(db, key, at, window)
        for (db, key), value, when in zip(self._asked, said.values, said.times, strict=True):
            if isinstance(value, Kept) and rewriter.sees_all:
                value = value.whole()
            if isinstance(value, Kept):
                put(window, db, key, value, when, said.exact, at, rewriter, pace)
                continue
            if value is not None:
                rewriter.put(db, key, value, when, said.exact, at, window)
        self._said = replace(said, values=[])  # long ones have files
        self.put_in = window


def _not_emptied() -> Wanted:
    """A node of a cluster serves other slots than it did, or may have done so when its owner died."""
    return Wanted("a node of the target cluster could not be emptied as the source was, since slots were on their way")
