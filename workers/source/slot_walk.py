"""Walks over the keys of some slots of a cluster, in steps.

The names of a slot's keys are asked for all at once, by CLUSTER GETKEYSINSLOT: every server since 3.0 answers that from
an index of its own, at one moment, so a key that is there is named, and nothing but the slot is looked at. SCAN would
walk over all keys of a node for each part of its slots, where its cursors do not count slots (before Redis 7.2 and
Valkey 8.0), and its cursors mean nothing to the node that a slot moves to. But it comes in pieces: so SCAN walks over a
slot with more keys than are to be named at once.

A slot may move while it is walked over. Behind the names stands what the node then says of who has which slots: of one
that has gone, or is on its way, all masters are asked, who has it first: a key moves from that one to another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

from sync_tasks.answers import classify
from sync_tasks.errors import Side
from sync_tasks.slots import Ranges, members
from sync_tasks.topology import Address
from workers.codec.resp_cy import ReplyError
from workers.codec.slots_cy import slot
from workers.source.routes import LAYOUT, Routes, View, moving

MOST_NAMES = 50_000
"""Keys of a slot that are named at once: the node is held up for some milliseconds."""
TIMES_AS_MANY = 2
"""So many times as many is a slot asked for, whose keys are named at once: it may have grown since they were counted. A
server before 4.0 makes room for as many names as it is asked for, however few there are, and dies of too many (Redis'
issue 3911)."""
SLOTS_AT_ONCE = 128
BITS = 15
"""Of a cursor: which slot is next. Above them stand, within a long slot, SCAN's cursor and a mark of the process."""
MARK_BITS = 32


class SlotWalk:
    """Args:
    routes: to the cluster.
    slots: those that are walked over.
    """

    def __init__(self, routes: Routes, slots: Ranges) -> None:
        self._routes, self._slots = routes, sorted(members(slots))

    def step(self, db: int, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Some names of keys behind a cursor, and the cursor behind them; 0 begins, and says that all were named. Some
        may come twice. Raises what `Routes` does; ConnectionLost (`slots-move`): a long slot is on its way.

        Args:
            count: about so many at once.
        """
        at, inside = cursor & ((1 << BITS) - 1), cursor >> BITS
        if at >= len(self._slots):
            return 0, []
        if inside:
            return self._scan(db, at, inside, count)
        taken, most = list[int](), 0
        for one, keys in self._counts(db, self._slots[at : at + SLOTS_AT_ONCE]):
            if keys > MOST_NAMES and not taken:
                return self._scan(db, at, 0, count)
            if keys > MOST_NAMES or (taken and most + keys > max(count, 1)):
                break
            taken, most = [*taken, one], most + keys
        names = self._names(db, taken)
        if names is None:
            return self.step(db, cursor, count)
        after = at + len(taken)
        return (after if after < len(self._slots) else 0), names

    def _counts(self, db: int, slots: Sequence[int]) -> list[tuple[int, int]]:
        """Slots in order, with the keys that each has at the node that serves it."""
        found: dict[int, int] = {}
        for at, some in self._by_owner(slots).items():
            answers = self._routes.ask(at, db, [(b"CLUSTER", b"COUNTKEYSINSLOT", one) for one in some])
            found |= zip(some, map(_sound, answers), strict=True)
        return [(one, int(found[one])) for one in slots]

    def _names(self, db: int, slots: Sequence[int]) -> list[bytes] | None:
        """All keys of some slots; None: one has many more by now than when they were counted."""
        names, most = list[bytes](), TIMES_AS_MANY * MOST_NAMES
        for at, some in self._by_owner(slots).items():
            asked = [(b"CLUSTER", b"GETKEYSINSLOT", one, most) for one in some]
            *answers, nodes, places = self._routes.ask(at, db, [*asked, *LAYOUT])
            now = self._routes.view([nodes, places], at)
            for one, answer in zip(some, answers, strict=True):
                if len(found := _sound(answer)) >= most:
                    return None
                names += found
                if not now.rests(one):
                    names += self._everywhere(db, one, now)
                    self._routes.forget()
        return names

    def _everywhere(self, db: int, number: int, now: View) -> list[bytes]:
        """The keys that any master has of a slot that moves. Raises ConnectionLost (`slots-move`): they are many."""
        names: list[bytes] = []
        places = [one.master for one in sorted(now.shards, key=lambda one: not one.serves(number))]
        if number in now.heirs:
            places.append(now.heirs[number][1])  # one that is new has no slots yet
        left = list(dict.fromkeys(places))
        asked: list[Address] = []
        while left:
            asked.append(at := left.pop(0))
            words = (b"CLUSTER", b"GETKEYSINSLOT", number, MOST_NAMES + 1)
            said, *layout = self._routes.ask(at, db, [words, *LAYOUT])
            some = _sound(said)
            if len(some) > MOST_NAMES:
                self._routes.forget()
                raise moving()
            names += some
            # The slot may have gone on since: whoever has it by now alone knows where to, and is asked before that one.
            _, heir = self._routes.view(layout, at).heirs.get(number, ("", None))
            if heir is not None and heir not in left and asked.count(heir) < 2:
                left.append(heir)
        return names

    def _scan(self, db: int, at: int, inside: int, count: int) -> tuple[int, list[bytes]]:
        """Of a slot with many keys, by a walk over all of its node."""
        number = self._slots[at]
        place = self._routes.owner(number)
        cursor, mark = inside >> MARK_BITS, inside & ((1 << MARK_BITS) - 1)
        said = self._routes.ask(place, db, [(b"INFO", b"server"), (b"SCAN", cursor, b"COUNT", count), *LAYOUT])
        info, (after, names) = _sound(said[0]), _sound(said[1])
        if not self._routes.view(said[2:], place).rests(number):
            self._routes.forget()
            raise moving()
        run = crc32(next((line for line in info.splitlines() if line.startswith(b"run_id:")), b"")) | 1
        if inside and mark != run:  # another process counts its cursors in its own order
            return self._scan(db, at, 0, count)
        mine = [name for name in names if slot(name) == number]
        if int(after):
            return ((int(after) << MARK_BITS | run) << BITS) | at, mine
        return (at + 1 if at + 1 < len(self._slots) else 0), mine

    def _by_owner(self, slots: Iterable[int]) -> dict[Address, list[int]]:
        found: dict[Address, list[int]] = {}
        for one in slots:
            found.setdefault(self._routes.owner(one), []).append(one)
        return found


def _sound(answer: object) -> Any:
    if isinstance(answer, ReplyError):
        raise classify(answer.line, Side.SOURCE)
    return answer
