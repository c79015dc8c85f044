"""Which node of a cluster is asked about a key: a simulated one, whose slots are on their way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, Side
from sync_tasks.slots import ranges, written
from sync_tasks.topology import Address, Shard
from workers.codec.resp_cy import ReplyError
from workers.codec.slots_cy import slot
from workers.source import slot_walk
from workers.source.routes import Command, Routes
from workers.source.slot_walk import SlotWalk

ONE, TWO, THREE = ("one", 1), ("two", 2), ("three", 3)
KEYS = [b"{a}%d" % number for number in range(6)]
SLOT = slot(b"a")


class Simulated(Routes):
    """Two masters, the first of which serves all slots; `move` begins to give one of them to the other."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self.given: set[int] = set()
        super().__init__(Endpoint(Side.SOURCE, "redis+cluster"), "test")
        self.keys: dict[Address, set[bytes]] = {ONE: set(keys), TWO: set()}
        self.away: int | None = None
        self.told: list[tuple[Address, Command]] = []
        self.shards()

    def shards(self) -> list[Shard]:
        self._owners = [TWO if one in self.given else ONE for one in range(16384)]
        return []

    def move(self, number: int, keys: Iterable[bytes]) -> None:
        self.away = number
        for key in keys:
            self.keys[ONE].discard(key)
            self.keys[TWO].add(key)

    def end(self) -> None:
        assert self.away is not None
        self.given.add(self.away)
        self.away = None

    def ask(self, at: Address, db: int, commands: Iterable[Command], aside: object = None) -> list[Any]:
        found: list[Any] = []
        inside, wrong, asking, open_ = list[Any](), False, False, False
        for command in commands:
            self.told.append((at, command))
            name = command[0]
            if name == b"CLUSTER":
                found.append(self._cluster(at, command))
            elif name == b"ASKING":
                asking = True
                found.append(b"OK")
            elif name == b"MULTI":
                inside, wrong, open_ = [], False, True
                found.append(b"OK")
            elif name == b"EXEC":
                found.append(ReplyError(b"-EXECABORT Transaction discarded") if wrong else inside)
                asking = open_ = False
            else:
                said = self._about_key(at, bytes(command[1]), asking)  # type: ignore[arg-type]
                wrong = wrong or isinstance(said, ReplyError)
                inside.append(said)
                found.append(said if isinstance(said, ReplyError) or not open_ else b"QUEUED")
                asking = asking and open_
        return found

    def _about_key(self, at: Address, key: bytes, asking: bool) -> Any:
        number = slot(key)
        owner = TWO if number in self.given else ONE
        if at != owner and not (asking and number == self.away):
            return ReplyError(b"-MOVED %d %s:%d" % (number, owner[0].encode(), owner[1]))
        if at == owner and number == self.away and key not in self.keys[at]:
            return ReplyError(b"-ASK %d %s:%d" % (number, TWO[0].encode(), TWO[1]))
        return int(key in self.keys[at])

    def _cluster(self, at: Address, command: Command) -> Any:
        mine = {key for key in self.keys[at] if command[1] in SOME and slot(key) == command[2]}
        if command[1] == b"COUNTKEYSINSLOT":
            return len(mine)
        if command[1] == b"GETKEYSINSLOT":
            return sorted(mine)[: int(command[3])]
        if command[1] == b"SLOTS":
            return []
        lines = []
        for place, name in ((ONE, "first"), (TWO, "second")):
            has = [one for one in range(16384) if (one in self.given) == (place == TWO)]
            flags = "myself,master" if place == at else "master"
            parts = written(ranges(has)).split(",") if has else []
            if place == at == ONE and self.away is not None:
                parts.append(f"[{self.away}->-second]")
            lines.append(f"{name} {place[0]}:{place[1]}@9 {flags} - 0 0 1 connected {' '.join(parts)}")
        return "\n".join(lines).encode()


SOME = (b"COUNTKEYSINSLOT", b"GETKEYSINSLOT")


def there(routes: Simulated, keys: list[bytes], commands: int = 2) -> list[Any]:
    said = routes.about(0, keys, lambda one: [(b"EXISTS", keys[one])] * commands)
    assert all(len(answer) == commands for answer in said if isinstance(answer, list))
    return [answer[0] if isinstance(answer, list) else answer for answer in said]


def test_keys_of_a_slot_are_asked_for_together() -> None:
    routes = Simulated(KEYS)
    assert there(routes, [*KEYS, b"gone"]) == [1] * 6 + [0]
    assert len(routes.told) == 2 * (7 + 2), "a transaction for each slot"
    routes.told.clear()
    assert there(routes, [*KEYS, b"gone"], 1) == [1] * 6 + [0]
    assert len(routes.told) == 7, "one command is none"


@pytest.mark.parametrize("commands", [1, 2])
def test_a_key_that_is_on_its_way_is_not_gone(commands: int) -> None:
    """It is asked of whoever is to have it, and that one alone says that a key is not there."""
    routes = Simulated(KEYS)
    routes.move(SLOT, KEYS[:3])
    assert there(routes, [*KEYS, b"{a}gone"], commands) == [1] * 6 + [0]
    routes.keys[TWO].discard(KEYS[0])
    assert there(routes, KEYS, commands) == [0] + [1] * 5


def test_a_slot_that_has_moved_is_looked_for_once() -> None:
    routes = Simulated(KEYS)
    routes.move(SLOT, KEYS)
    routes.end()
    assert there(routes, KEYS) == [1] * 6
    routes.told.clear()
    assert there(routes, KEYS) == [1] * 6
    assert {at for at, _ in routes.told} == {TWO}


def test_nobody_has_it_for_long() -> None:
    routes = Simulated(KEYS)
    routes.move(SLOT, KEYS)
    routes._about_key = lambda at, key, asking: ReplyError(b"-TRYAGAIN")  # type: ignore[method-assign,assignment]
    with pytest.raises(ConnectionLost) as refused:
        there(routes, KEYS[:1])
    assert refused.value.code == "slots-move"


def walked(walk: SlotWalk, between: Any = lambda: None) -> list[bytes]:
    cursor, names = walk.step(0, 0, 4)
    while cursor:
        between()
        cursor, more = walk.step(0, cursor, 4)
        names += more
    return names


@pytest.fixture
def many() -> list[bytes]:
    return [b"k%d" % number for number in range(100)]


def test_each_key_is_named(many: list[bytes]) -> None:
    routes = Simulated([*KEYS, *many])
    some = walked(SlotWalk(routes, ((0, 5000), (SLOT, SLOT))))
    assert sorted(some) == sorted(key for key in [*KEYS, *many] if slot(key) <= 5000 or slot(key) == SLOT)


def test_no_slot_is_asked_for_more_names_than_a_server_has_room_for(many: list[bytes]) -> None:
    """One before 4.0 makes room for as many as it is asked for, before it looks how many there are."""
    routes = Simulated([*KEYS, *many])
    walked(SlotWalk(routes, ((0, 16383),)))
    assert max(int(command[3]) for _, command in routes.told if command[1:2] == (b"GETKEYSINSLOT",)) <= 100_000


def test_a_slot_that_grows_while_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_walk, "MOST_NAMES", 3)
    routes = Scanned(KEYS[:2])
    ask = routes.ask

    def grows(at: Address, db: int, commands: Iterable[Command], aside: object = None) -> list[Any]:
        commands = list(commands)
        if commands[0][1] == b"GETKEYSINSLOT":
            routes.keys[ONE].update(KEYS)
        return ask(at, db, commands, aside)

    monkeypatch.setattr(routes, "ask", grows)
    assert set(walked(SlotWalk(routes, ((SLOT, SLOT),)))) == set(KEYS)


def test_of_a_slot_on_its_way_both_nodes_name_the_keys() -> None:
    routes = Simulated(KEYS)
    routes.move(SLOT, KEYS[:3])
    assert set(walked(SlotWalk(routes, ((SLOT, SLOT),)))) == set(KEYS)
    routes.move(SLOT, KEYS)
    routes.end()
    assert set(walked(SlotWalk(routes, ((SLOT, SLOT),)))) == set(KEYS)


class Handed(Simulated):
    """The first master has given the slot to the second one, which is about to give it to a third. That one is new, and
    only the second one knows of it."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        super().__init__(keys)
        self.given = {SLOT}
        self.keys = {ONE: set(), TWO: set(keys), THREE: set()}

    def shards(self) -> list[Shard]:
        self._owners = [ONE] * 16384  # as it was when it was asked last
        return []

    def _cluster(self, at: Address, command: Command) -> Any:
        said = super()._cluster(at, command)
        if command[1] != b"NODES" or at == ONE:
            return said
        lines = said.decode().splitlines()
        if at == TWO:
            lines[1] += f" [{SLOT}->-third]"
        lines.append(f"third three:3@9 {'myself,' if at == THREE else ''}master - 0 0 1 connected ")
        return "\n".join(lines).encode()


def test_a_slot_that_goes_on_from_where_it_has_gone_is_named_by_the_third() -> None:
    routes = Handed(KEYS[:3])
    routes.keys[THREE] = set(KEYS[3:])
    assert set(walked(SlotWalk(routes, ((SLOT, SLOT),)))) == set(KEYS)


def test_a_key_that_moves_while_the_masters_are_asked_is_named_by_who_is_to_have_it() -> None:
    """It is asked before the one that has the slot, where that is not known."""
    routes, ask = Handed(KEYS), Simulated.ask

    def moves(at: Address, db: int, commands: Iterable[Command], aside: object = None) -> list[Any]:
        said = ask(routes, at, db, commands, aside)
        if at == ONE and routes.keys[TWO]:
            routes.keys[THREE].add(key := min(routes.keys[TWO]))
            routes.keys[TWO].discard(key)
        return said

    routes.ask = moves  # type: ignore[method-assign]
    assert set(walked(SlotWalk(routes, ((SLOT, SLOT),)))) == set(KEYS)


class Scanned(Simulated):
    """Its SCAN gives three keys at once."""

    run = b"1"

    def ask(self, at: Address, db: int, commands: Iterable[Command], aside: object = None) -> list[Any]:
        found: list[Any] = []
        for command in commands:
            if command[0] == b"INFO":
                found.append(b"run_id:%s\r\n" % self.run)
            elif command[0] == b"SCAN":
                start, every = int(command[1]), sorted(self.keys[at])
                after = start + 3 if start + 3 < len(every) else 0
                found.append([b"%d" % after, every[start : start + 3]])
            else:
                found += super().ask(at, db, [command])
        return found


def test_a_long_slot_is_walked_over_in_pieces(monkeypatch: pytest.MonkeyPatch, many: list[bytes]) -> None:
    """Another process begins it anew; one that is on its way has to come to rest."""
    monkeypatch.setattr(slot_walk, "MOST_NAMES", 5)
    routes = Scanned([*KEYS, *many[:20]])
    walk = SlotWalk(routes, ((SLOT - 1, SLOT + 1),))
    mine = {key for key in [*KEYS, *many[:20]] if SLOT - 1 <= slot(key) <= SLOT + 1}
    assert sorted(walked(walk)) == sorted(mine)
    steps: list[int] = []

    def restarts() -> None:
        steps.append(1)
        routes.run = b"2" if len(steps) > 2 else b"1"

    assert set(walked(walk, restarts)) == mine
    routes.move(SLOT, KEYS[:1])
    monkeypatch.setattr(slot_walk, "MOST_NAMES", 4)
    with pytest.raises(ConnectionLost):
        walked(walk)


def test_a_long_slot_that_has_just_moved_is_walked_over_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_walk, "MOST_NAMES", 4)
    routes = Scanned(KEYS)
    routes.move(SLOT, KEYS)
    routes.end()
    walk = SlotWalk(routes, ((SLOT, SLOT),))
    with pytest.raises(ConnectionLost):
        walked(walk)
    assert set(walked(walk)) == set(KEYS)
