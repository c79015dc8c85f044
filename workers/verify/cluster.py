"""A cluster that answers pipelines of reading commands as if it were one server: each goes to the node of its key.

Slots may move, and masters fail over, meanwhile: MOVED and ASK are followed, command by command, and what could not be
asked of a node that is gone is asked of its heir. Which slots that concerned is kept: whoever walks all keys walks
those of such slots again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost
from sync_tasks.slots import SLOTS, Ranges, ranges
from sync_tasks.topology import Address, shards
from workers.codec.slots_cy import slot
from workers.pace import Pace
from workers.verify.link import Link, about_key
from workers.verify.routing import AWAY, BUSY, cut, unpacked
from workers.verify.wire import Refusal, pack

WAIT_S = 30.0
"""So long a cluster may take to have a node for every slot again."""
POLL_S = 0.2
LOOK_S = 2.0
"""Who walks a cluster asks this often who has which slots."""
ASKING = pack(b"ASKING")
TYPE = b"TYPE"
Unit = list[int]
"""Commands of a request that go to one node together, by their numbers: one, or all of them around a TIME."""


class ClusterLink:
    """Has the methods of `Link`.

    Args:
        endpoint: the cluster.
        pace: of all its nodes together.

    moved: slots that have another node than they had, since somebody has cleared it. moving: those seen on their way.
    Raises KeyferryError as `Link`, and ConnectionLost if some slot has no node for long.
    """

    def __init__(self, endpoint: Endpoint, pace: Pace | None = None) -> None:
        self.endpoint = endpoint
        self.pace = pace or Pace()
        self.moved: set[int] = set()
        self.moving: set[int] = set()
        self._links: dict[Address, Link] = {}
        self._owners: list[Address] = []
        self._looked_at = 0.0
        self._alone: set[bytes] = set()  # keys that have answered ASK beside others
        self._request: tuple[int, list[bytes], list[bytes | None], list[Unit]] = (0, [], [], [])
        self._sent: dict[Address, list[Unit]] = {}
        self._started: set[Address] = set()
        self._last: Address = ("", 0)
        try:
            self.look()
            self.info = min((link.info for link in self._each()), key=version)
        except BaseException:
            self.close()
            raise

    # --- as Link

    def start(self, db: int, request: bytes, count: int) -> None:
        """Send the packed commands of `request`; `finish` then reads their `count` answers."""
        raws, keys = cut(request)
        assert len(raws) == count
        whole = None in keys
        units = [list(range(count))] if whole and count else [[i] for i in range(count)]
        self._request = (db, raws, keys, units)
        self._sent = {}
        for unit in units:
            self._sent.setdefault(self._place(unit), []).append(unit)
        for place, some in self._sent.items():
            self._start(place, some)

    def finish(self, *, loose: bool = False) -> list[Any]:
        """As `Link.finish`. Of several keys around a TIME, those that are elsewhere answer a Refusal."""
        answers = self._collect()
        for answer in answers:
            if isinstance(answer, Refusal) and not (AWAY.match(answer.line) or (loose and about_key(answer))):
                raise classify(answer.line, self.endpoint.side)
        return answers

    def ask(self, db: int, request: bytes, count: int, *, loose: bool = False) -> list[Any]:
        """`start` and `finish`."""
        self.start(db, request, count)
        return self.finish(loose=loose)

    def probe(self, db: int, *words: bytes) -> Any:
        """The answer to one command, a `Refusal` too."""
        self.start(db, pack(*words), 1)
        return self._collect()[0]

    def has(self, db: int) -> bool:
        """Whether every node has a database of that number."""
        return all(link.has(db) for link in self._each())

    def knows(self, *command: bytes) -> bool:
        """Whether every node knows a command, whoever has its key."""
        return all(link.knows(*command) for link in self._each())

    def everywhere(self, request: bytes) -> list[Any]:
        """What each master answers to one command without a key."""
        return [link.ask(0, request, 1)[0] for link in self._each()]

    def by_node(self, args: Sequence[bytes]) -> list[list[int]]:
        """Packed keys, by their numbers, that one node can be asked about in one go."""
        found: dict[Any, list[int]] = {}
        for i, packed in enumerate(args):
            key = unpacked(packed)
            found.setdefault(key if key in self._alone else self._owners[slot(key)], []).append(i)
        return list(found.values())

    def owner(self, key: bytes) -> Address | None:
        """Who has the slot of a key, by what is known."""
        return self._owners[slot(key)]

    def node_of(self, db: int, key: bytes) -> Address | None:
        """Who answers about a key now."""
        self.ask(db, pack(TYPE, key), 1)
        return self._last

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()

    # --- nodes

    @property
    def masters(self) -> Sequence[Address]:
        """Those that serve slots, by what is known."""
        return list(dict.fromkeys(self._owners))

    def slots_of(self, place: Address) -> Ranges:
        """The slots that a master serves, by what is known."""
        return ranges(i for i in range(SLOTS) if self._owners[i] == place)

    def masters_of(self, slots: Iterable[int]) -> Sequence[Address]:
        """Who serves some slots, by what is known."""
        return list(dict.fromkeys(self._owners[i] for i in slots))

    def look(self) -> None:
        """Who has which slots now. Raises what finding that does."""
        found = shards(self.endpoint)
        owners: list[Address] = [("", 0)] * SLOTS
        for shard in found:
            for first, last in shard.slots:
                owners[first : last + 1] = [shard.master] * (last - first + 1)
            self.moving.update(shard.moving)
        if self._owners and owners != self._owners:
            self.moved.update(i for i in range(SLOTS) if owners[i] != self._owners[i])
        self._owners = owners
        self._looked_at = time.monotonic()

    def look_now_and_then(self) -> None:
        """While keys are walked."""
        if time.monotonic() - self._looked_at > LOOK_S:
            self.look_patiently()

    def of(self, place: Address) -> Link:
        """The link to a node. Raises ConnectionLost."""
        if place not in self._links:
            self._links[place] = Link(self.endpoint.at(*place), self.pace)
        return self._links[place]

    def is_open(self, place: Address, link: Link) -> bool:
        """Whether a node has not been `lost` since."""
        return self._links.get(place) is link

    def lost(self, place: Address) -> None:
        """A node does not answer, or not as the one it was: its slots may be another's now."""
        link = self._links.pop(place, None)
        if link is not None:
            link.close()
        self.moved.update(i for i in range(SLOTS) if self._owners[i] == place)
        self.look_patiently()

    def look_patiently(self) -> None:
        """Until some node says it."""
        until = time.monotonic() + WAIT_S
        while True:
            try:
                return self.look()
            except ConnectionLost:
                if time.monotonic() > until:
                    raise
                time.sleep(POLL_S)

    def _each(self) -> list[Link]:
        return [self.of(place) for place in self.masters]

    def _place(self, unit: Unit) -> Address:
        keys = self._request[2]
        key = next((keys[i] for i in unit if keys[i] is not None), None)
        return self._owners[0 if key is None else slot(key)]

    # --- answers

    def _start(self, place: Address, units: list[Unit], asking: bool = False) -> None:
        db, raws, keys, _ = self._request
        numbers = [i for unit in units for i in unit]
        words = [ASKING + raws[i] if asking and keys[i] is not None else raws[i] for i in numbers]
        more = sum(keys[i] is not None for i in numbers) if asking else 0
        self._started.discard(place)
        with suppress(ConnectionLost):  # `_read` knows
            self.of(place).start(db, b"".join(words), len(numbers) + more)
            self._started.add(place)

    def _collect(self) -> list[Any]:
        answers: list[Any] = [None] * len(self._request[1])
        left: list[tuple[Unit, Address | None]] = []
        for place, units in self._sent.items():
            left += self._read(place, units, answers)
        until, rounds = time.monotonic() + WAIT_S, 0
        while left and time.monotonic() < until:
            if rounds > 1:
                time.sleep(POLL_S)
            rounds += 1
            again, left = left, []
            for unit, asked in again:
                place = asked or self._place(unit)
                self._start(place, [unit], asked is not None)
                left += self._read(place, [unit], answers, asked is not None)
        if left:
            raise ConnectionLost(
                "the cluster has no node that answers for some slot",
                side=self.endpoint.side, code="cluster-down", hint="see CLUSTER INFO there",
            )  # fmt: skip
        return answers

    def _read(
        self, place: Address, units: list[Unit], answers: list[Any], asking: bool = False
    ) -> list[tuple[Unit, Address | None]]:
        """Answers to what was started; what is to be asked again, and of whom, if not of whom the slot belongs to."""
        keys = self._request[2]
        link = self._links.get(place)
        try:
            some = iter(link.collect()) if link is not None and place in self._started else None
        except ConnectionLost:
            some = None
        if link is None or some is None:
            self.lost(place)
            return [(unit, None) for unit in units]
        self._last = place
        for unit in units:
            for i in unit:
                if asking and keys[i] is not None:
                    next(some)
                answers[i] = next(some)
        if not link.refused:
            return []
        return [(unit, to[0]) for unit in units if (to := self._redirected(unit, answers, place))]

    def _redirected(self, unit: Unit, answers: list[Any], place: Address) -> tuple[Address | None] | None:
        keys = {self._request[2][i] for i in unit} - {None}
        to: tuple[Address | None] | None = None
        for i in unit:
            answer = answers[i]
            if not isinstance(answer, Refusal):
                continue
            if found := AWAY.match(answer.line):
                there = (found[3].decode() or place[0], int(found[4]))
                to = self._learn(found[1], int(found[2]), there)
                if len(keys) > 1:
                    self._alone.add(self._request[2][i] or b"")
            elif answer.line.startswith(BUSY):
                self.look_patiently()
                to = (None,)
        return to if len(keys) == 1 else None

    def _learn(self, how: bytes, number: int, there: Address) -> tuple[Address | None]:
        if how == b"ASK":
            self.moving.add(number)
            return (there,)
        self.moved.add(number)
        self._owners[number] = there
        return (None,)


def version(info: dict[str, str]) -> list[int]:
    """To compare servers of one kind by."""
    text = info.get("valkey_version") or info.get("redis_version", "")
    return [int(part) for part in text.split(".") if part.isdigit()]
