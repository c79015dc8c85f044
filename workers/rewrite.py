"""The commands of a stream that do not travel as they are: which they are, and what becomes of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from sync_tasks import slots as hash_slots
from sync_tasks.lanes import tag_of
from sync_tasks.names import built_key
from workers.clock import Clock
from workers.codec.resp_cy import KEYED
from workers.codec.slots_cy import slot
from workers.compose import alone, emit, select
from workers.crossing import MOVES, SECOND, divide, settable, taken_from, written
from workers.expiry import hold
from workers.libraries import repeatable
from workers.older import Older, refuse
from workers.scope import Scope
from workers.single import SINGLE
from workers.source.ask import Kind
from workers.spool.scripts import Scripts
from workers.target.knows import Knows
from workers.target.pours import Pours
from workers.target.windows import Window
from workers.times import TIMED, Retimed, renamed, restore, retime, unknown_time
from workers.trimmed import TRIM, trim
from workers.wanted import Wanted

FILTERED = frozenset(("timed", "older"))
"""Kinds of commands that tell all their keys."""
Key = tuple[int, bytes]
"""The source's number of a database, and a key in it."""
LEFT_OUT = "expiries of hash fields and the like"
ANY: frozenset[Key] = frozenset()
NEWEST = Kind(redis=False, major=99)
IGNORED = {b"PING", b"REPLCONF", b"PUBLISH", b"SPUBLISH", b"CLUSTER"}
STREAM = {b"SELECT", b"MULTI", b"EXEC"}
MOVING = {b"RENAME", b"RENAMENX", b"COPY", b"MOVE"}
"""They give a key the expiry of another one, which may be held."""
WHOLE = {b"FLUSHALL", b"FLUSHDB", b"SWAPDB"}
SERVER_WIDE = {b"FUNCTION", b"SCRIPT"}
"""They belong to no database."""
SCRIPTS = {b"EVAL", b"EVALSHA"}
"""Before 7.0 a source may send a script instead of what it did there."""
TIMES = re.compile(rb"""(?i)['"](p?ttl|p?expiretime|p?expireat|[ep]xat)['"]""")
"""Commands of a script that read times, which are held on the target, or set absolute ones, which may be over there."""
HOLD = b"for _, k in ipairs(KEYS) do if redis.call('PTTL', k) >= 0 then redis.call('PEXPIREAT', k, ARGV[1]) end end"

TABLE: dict[bytes, str] = {
    **dict.fromkeys(IGNORED, "ignored"),
    **{name: name.decode().lower() for name in STREAM},
    **dict.fromkeys(TIMED, "timed"),
    **dict.fromkeys(MOVING, "moving"),
    **dict.fromkeys(WHOLE, "whole"),
    **dict.fromkeys(SERVER_WIDE, "server-wide"),
    **dict.fromkeys(SCRIPTS, "script"),
    TRIM: "trim",
}
"""Command to its kind; commands that are not here are copied."""


class Rewriter:
    """Puts what becomes of such a command into a window.

    Args:
        scope: databases that travel.
        clock: decides what becomes of times.
        home: the checkpoint's database.
        own: commands that put our own keys in order after one that empties or swaps databases:
            called with the target databases concerned.
        touched: told of each key whose expiry is held, or may be: (target db, key, stream offset, whether it is).
        swapped: told of target databases that are, and of the offset before that.
        knows: the target, as the stream meets it; None: one that knows everything.
        left_out: told of what the target has no place for: how much, what, of which key.
        source: what it is, as far as that is known.
        scripts: bodies that it has sent.
        temporary: name of the n-th value that is built ahead of a window; with the hash tag that it has to have.
    """

    sees_all = False
    """Whether all of a value is to be there when it is written."""

    def __init__(
        self,
        scope: Scope,
        clock: Clock,
        home: int,
        own: Callable[[list[int]], list[list[bytes]]],
        touched: Callable[[int, bytes, int, bool], None],
        swapped: Callable[[Collection[int], int], None],
        knows: Knows | None = None,
        left_out: Callable[[int, str, bytes], None] = lambda *_: None,
        source: Kind = NEWEST,
        scripts: Scripts | None = None,
        temporary: Callable[[int, str], bytes] | None = None,
    ) -> None:
        self.scope, self.clock, self.home = scope, clock, home
        self._own, self._touched, self._swapped = own, touched, swapped
        knows = knows or Knows()
        self.older = Older(knows, left_out)
        self.reads, self.left_out, self._source = knows.reads, left_out, source
        self._scripts = scripts or Scripts(Path("/dev/null"))
        self._temporary = temporary or partial(built_key, "none", 0)
        # INCRBYFLOAT may come as a SET that says nothing of the time which the key keeps: the source is to be asked.
        self.floats = source.major < 6
        self.pours = Pours()  # of all connections of this stream

    def write(self, kind: str, argv: list[bytes], db: int, before: int, after: int, window: Window) -> None:
        """Rewrite one command into the window.

        Args:
            kind: as TABLE says, none of the ignored and the stream's own.
            db: the source's database it acts on.
            before, after: stream offsets of its two ends.
        Raises Wanted, Trimmed; ValueError, IndexError, StopIteration for arguments that make no sense.
        """
        window.changes += 1
        target = self.scope.target(db)
        if kind in FILTERED and (target is None or not self._takes(argv, db)):
            return
        if kind == "whole":
            self._whole(argv, db, before, window)
        elif kind == KEYED and target is not None:
            self._keyed(argv, db, target, before, window)
        elif kind == "server-wide":
            if argv[0].upper() == b"SCRIPT" and argv[1].upper() == b"LOAD":
                self._scripts.add(argv[2])
            given = repeatable(argv) if self.scope.apart else [argv]
            for command in [done for one in given for done in self.older.rewrite(one) or []]:
                if self.scope.one_slot:  # a script may not say it; what it says twice changes nothing
                    window.plain.append(command)
                else:
                    emit(window, command, before)
        elif kind == "timed" and target is not None:
            done = unknown_time(argv) if self.floats else None
            done = done or retime(argv, self.clock, self.reads, self._source.redis)
            if done is None or self._divides(argv, db):
                select(window, target, before)
                refuse(window, argv, before, expected=done is not None)
            else:
                self._timed(done, argv, target, before, after, window)
        elif kind == "older" and target is not None:
            self._older(argv, argv, target, before, window)
        elif kind == "unknown" and target is not None and (argv[0].upper() not in SINGLE or self._takes(argv, db)):
            select(window, target, before)
            refuse(window, argv, before, expected=True)
        elif kind == "moving":
            self._moving(argv, db, before, after, window)
        elif kind == "script":
            self._script(argv, db, before, after, window)
        elif kind == "trim":
            trim(argv, self.scope.extent.slots or ())

    def temporary(self, number: int, key: bytes) -> bytes:
        """Name of the n-th value that is built ahead of a window, to become a key."""
        return self._temporary(number, tag_of(key) if self.scope.one_slot else "")

    def _takes(self, argv: list[bytes], db: int) -> bool:
        """Whether any key of a command is in scope, of a kind that tells all its keys."""
        name = argv[0].upper()
        if name == b"MSETEX":
            return any(self.scope.takes(db, key) for key in settable(argv))
        return self.scope.takes(db, argv[2] if name in SECOND else argv[1])

    def _divides(self, argv: list[bytes], db: int) -> bool:
        """Whether keys of a timed command are in scope and others not, or are not in one slot."""
        if argv[0].upper() != b"MSETEX":
            return False
        return not (all(self.scope.takes(db, key) for key in settable(argv)) and self._together(settable(argv)))

    def _together(self, keys: list[bytes]) -> bool:
        """Whether one command may name all these keys."""
        return not self.scope.one_slot or len(set(map(slot, keys))) < 2

    def _keyed(self, argv: list[bytes], db: int, target: int, before: int, window: Window) -> None:
        """A command of several keys, where there is a filter."""
        commands = self._divide(argv, db) if self.scope.filtered else [argv]
        if commands == []:
            return
        select(window, target, before)
        if commands is None:
            if self.scope.one_slot and argv[0].upper() in MOVES and self.scope.takes(db, argv[1]):
                emit(window, taken_from(argv), before)  # from its source; what it is put to is copied anew
            refuse(window, argv, before, expected=True)
            return
        for command in commands:
            emit(window, command, before)

    def stands_for(self, argv: list[bytes], db: int) -> frozenset[Key] | None:
        """The keys that are to be copied anew since another command, which is sure to be refused, stands for this one.

        None: it is sent, or what is left of it. Empty: those that it names, whichever they are.
        Raises ValueError, IndexError for arguments that make no sense.
        """
        name = argv[0].upper()
        if name in self.scope.blocked:
            return None
        if self.older.kinds.get(name) == "unknown":
            return ANY
        if name in SCRIPTS:
            return ANY if self.cannot_run(argv) or self._crosses(argv, db) else None
        if name in MOVING:
            other, to = self._other(argv, db)[0], argv[1] if name == b"MOVE" else argv[2]
            comes_in = self.scope.takes(other, to) and not self._moves_along(argv[1], db, to)
            return frozenset(((other, to),)) if comes_in else None
        if not self.scope.filtered or name in SINGLE or self.scope.target(db) is None:
            return None
        if name in TABLE:
            return ANY if self._divides(argv, db) else None
        if self._divide(argv, db) is not None:
            return None
        key = written(name, argv)
        return ANY if key is None else frozenset(((db, key),))

    def _divide(self, argv: list[bytes], db: int) -> list[list[bytes]] | None:
        near = slot if self.scope.one_slot else None
        return divide(argv, lambda key: self.scope.takes(db, key), self.older.places, near)

    def _moves_along(self, key: bytes, db: int, to: bytes) -> bool:
        """Whether a key is where the target can take it from, to put it to another."""
        return self.scope.takes(db, key) and self._together([key, to])

    def _crosses(self, argv: list[bytes], db: int) -> bool:
        """Whether a script may touch keys that are in scope and others: it need not name all."""
        return self.scope.filtered and any(self.scope.takes(db, key) for key in argv[3 : 3 + int(argv[2])])

    def put(self, db: int, key: bytes, payload: bytes, when: int, exact: bool, at: int, window: Window) -> None:
        """A key of the source's database `db` as it is at offset `at`; the rest as for `workers.times.restore`."""
        target = self.scope.target(db)
        assert target is not None
        done = restore(key, payload, when, exact, self.clock, self.reads)
        self._timed(done, [b"RESTORE", key], target, at, at, window)

    def renamed(
        self, db: int, key: bytes, temporary: bytes, when: int, exact: bool, fields: bool, before: int, after: int,
        window: Window,
    ) -> None:  # fmt: skip
        """A value that has been built under another name, as for `workers.times.renamed`; the rest as for `write`."""
        target = self.scope.target(db)
        assert target is not None
        done = renamed(key, temporary, when, exact, fields, self.clock)
        self._timed(done, [b"RESTORE", key], target, before, after, window)

    def remove(self, db: int, key: bytes, at: int, window: Window) -> None:
        """A key of the source's database `db` that is not there at offset `at`."""
        target = self.scope.target(db)
        assert target is not None
        select(window, target, at)
        emit(window, [b"UNLINK", key], at)

    def _timed(
        self, done: Retimed, argv: list[bytes], target: int, before: int, after: int, window: Window
    ) -> None:
        window.held |= bool(done.keys)
        for key in done.keys:
            self._touched(target, key, after, True)
        if done.lost:
            self.left_out(done.lost, LEFT_OUT, argv[1])
        for command in done.commands:
            self._older(command, argv, target, before, window)

    def _older(self, command: list[bytes], argv: list[bytes], target: int, before: int, window: Window) -> None:
        """A command as the target knows it; `argv` is the stream's."""
        commands = self.older.rewrite(command)
        select(window, target, before)
        if commands is None:
            refuse(window, argv, before)
            return
        for one in commands:
            emit(window, one, before)

    def _script(self, argv: list[bytes], db: int, before: int, after: int, window: Window) -> None:
        """Times that a script gives count from the target's moment: they are held until the source is asked."""
        if argv[0].upper() == b"EVAL":
            self._scripts.add(argv[1])
        target, keys = self.scope.target(db), argv[3 : 3 + int(argv[2])]
        if target is None or (keys and not any(self.scope.takes(db, key) for key in keys)):
            return
        if not keys and self.scope.filtered:
            raise Wanted("a script that names no keys may write to some in scope, and to others")
        select(window, target, before)
        if self.cannot_run(argv) or self._crosses(argv, db):
            refuse(window, argv, before, expected=True)
            return
        body = self._body(argv)
        emit(window, argv if body is None else [b"EVAL", body, *argv[2:]], before)
        if keys:
            emit(window, [b"EVAL", HOLD, argv[2], *keys, b"%d" % hold(1, exact=False)], before)
            window.held = True
        for key in keys:
            self._touched(target, key, after, True)

    def _body(self, argv: list[bytes]) -> bytes | None:
        return argv[1] if argv[0].upper() == b"EVAL" else self._scripts.get(argv[1])

    def cannot_run(self, argv: list[bytes]) -> bool:
        """Whether a command is a script that would not do on the target what it has done at the source, or may not: it
        works with times, or is not known. One that names no keys runs all the same: nothing could be copied anew."""
        if argv[0].upper() not in SCRIPTS or int(argv[2]) == 0:
            return False
        if self.scope.one_slot:
            return True  # a script runs no other
        body = self._body(argv)
        return body is None or TIMES.search(body) is not None

    def _moving(self, argv: list[bytes], db: int, before: int, after: int, window: Window) -> None:
        """RENAME, COPY, MOVE: the other key, and perhaps another database."""
        name = argv[0].upper()
        other, at = self._other(argv, db)
        target, goal, to = self.scope.target(db), self.scope.target(other), argv[1] if name == b"MOVE" else argv[2]
        comes_in = self.scope.takes(other, to)
        if comes_in and goal is not None and target is not None and self._moves_along(argv[1], db, to):
            self._move(argv, at, to, target, goal, before, after, window)
            return
        if target is not None and name != b"COPY" and self.scope.takes(db, argv[1]):
            select(window, target, before)
            emit(window, [b"UNLINK", argv[1]], before)
        if comes_in and goal is not None:
            select(window, goal, before)  # what comes in is copied anew
            refuse(window, [b"RESTORE", to], before, expected=True)

    def _move(
        self, argv: list[bytes], at: int, to: bytes, target: int, goal: int, before: int, after: int, window: Window
    ) -> None:
        """The same where the target has both keys."""
        if goal == target and at > 0 and to == argv[1]:
            return  # both databases are one on the target
        window.databases.add(goal)
        if at > 0:
            argv = [*argv[:at], b"%d" % goal, *argv[at + 1 :]]
        self._touched(goal, to, after, False)
        select(window, target, before)
        emit(window, argv, before)

    def _other(self, argv: list[bytes], db: int) -> tuple[int, int]:
        """The database of the other key, and where it is named; -1: nowhere."""
        at = -1
        if argv[0].upper() == b"MOVE":
            at = 2
        elif argv[0].upper() == b"COPY":
            at = next((i + 1 for i, a in enumerate(argv) if i > 2 and a.upper() == b"DB"), -1)
        return (int(argv[at]) if at > 0 else db), at

    def _whole(self, argv: list[bytes], db: int, before: int, window: Window) -> None:
        """FLUSHALL, FLUSHDB, SWAPDB: on databases in scope alone; our own keys are put back at once."""
        name = argv[0].upper()
        concerned: list[int] = []
        if self._shares(argv, db):
            # What else is in those databases is to stay; and which keys came from here, a full sync in place tells.
            raise Wanted(f"{name.decode()} concerns keys that share their database on the target with others")
        if name == b"SWAPDB":
            concerned = self._swap(int(argv[1]), int(argv[2]), before, window)
        elif name == b"FLUSHALL" and self.scope.databases is None:
            concerned = [self.home]
            select(window, self.home, before)  # refused, it is to tell where it was
            self._empty(window, argv, before)
        else:
            every = sorted(set((self.scope.databases or {}).values()))
            for target in every if name == b"FLUSHALL" else [self.scope.target(db)]:
                if target is not None:
                    concerned.append(target)
                    select(window, target, before)
                    self._empty(window, [b"FLUSHDB", *argv[1:]], before)
        own = self._own(concerned)
        window.wipes |= bool(own)
        for command in own:
            if command[0] == b"SELECT":
                window.selected = int(command[1])
            emit(window, command, before)

    def _empty(self, window: Window, argv: list[bytes], before: int) -> None:
        """A command that empties a database, or all, of one server, or of the node of a cluster that is meant: there a
        slot of another part may be for a while."""
        if self.scope.lane is None:
            emit(window, argv, before)
        else:
            alone(window, argv, hash_slots.written(self.scope.lane.slots), before)

    def _shares(self, argv: list[bytes], db: int) -> bool:
        """Whether a command on whole databases concerns keys that share theirs on the target with others."""
        name = argv[0].upper()
        if name == b"FLUSHALL":
            return self.scope.shares_all
        return any(map(self.scope.shares, map(int, argv[1:3]) if name == b"SWAPDB" else [db]))

    def _swap(self, first: int, second: int, before: int, window: Window) -> list[int]:
        """SWAPDB; the target databases that it concerns."""
        one, two = self.scope.target(first), self.scope.target(second)
        if one is None and two is None:
            return []
        if one is None or two is None:
            raise Wanted(f"SWAPDB {first} {second} swaps a database that is not in scope into one that is")
        self._swapped([one, two], before)
        window.databases |= {one, two}
        emit(window, [b"SWAPDB", b"%d" % one, b"%d" % two], before)
        return [one, two]
