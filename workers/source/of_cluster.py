"""What is asked of a source that is a part of a cluster: some slots, whichever nodes have them at the moment.

A task that is read by SCAN has the same slots for each of its nodes as long as it runs. So nothing of it changes hands
when slots move, or when a shard fails over: a key is asked of the node that has it then (`routes`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from hashlib import sha256
from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.slots import Ranges, meet, members, size
from sync_tasks.topology import Address, Shard
from workers.aside import Aside, Kept
from workers.codec.programs import is_nothing
from workers.codec.resp_cy import ReplyError
from workers.source.ask import (
    KEYS,
    NO_HASH,
    Command,
    Hashes,
    Position,
    Source,
    Times,
    Values,
    _fields,
    _is_unknown,
    _ms,
)
from workers.source.routes import LAYOUT, Routes
from workers.source.slot_walk import SlotWalk

NOWHERE = Position("", 0)
"""Of answers from nodes whose streams nobody follows."""
INFO: Sequence[Command] = ((b"INFO", b"server"), (b"INFO", b"keyspace"))


class OfCluster(Source):
    """Asks about some slots; errors as of `Source`.

    Args:
        endpoint: of the cluster, with the slots.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._routes = Routes(endpoint, "keyferry-ask")
        self._walk = SlotWalk(self._routes, endpoint.slots)
        self._counted = 0  # commands that `beyond` has told of

    def close(self) -> None:
        super().close()
        self._routes.close()

    def beyond(self, commands: int) -> int:
        found, self._counted = self._routes.asked - self._counted, self._routes.asked
        return found - commands

    # --- the whole

    def is_replica(self) -> bool:
        return False

    def spaces(self) -> tuple[str, dict[int, int]]:
        """What stands for the processes that have the slots, and how many keys each database has in these, about; of
        those whose keys are all on their way elsewhere, 1."""
        runs, found = [], dict[int, float]()
        for shard, mine, server, spaces in self._masters():
            runs.append(server.get("run_id", ""))
            share = size(mine) / size(shard.slots)
            for db, keys in spaces.items():
                found[db] = found.get(db, 0.0) + keys * share
        for at in self._places():
            (said,) = self._all(at, 0, INFO[1:])
            for name in _fields(said):
                if name.startswith("db"):
                    found.setdefault(int(name[2:]), 0.0)
        run = runs[0] if len(runs) == 1 else sha256(" ".join(sorted(runs)).encode()).hexdigest()[:40]
        return run, {db: round(keys) or 1 for db, keys in found.items()}

    def keys(self, databases: Collection[int] | None = None) -> int | None:
        """Keys in some databases, or in all: one slot of a master may have nearly all, where names share a tag."""
        found = 0
        for shard, mine, _, spaces in self._masters():
            for db, keys in spaces.items():
                if databases is None or db in databases:
                    found += keys if mine == shard.slots else self._count(shard.master, db, mine)
        return found

    def _masters(self) -> Iterator[tuple[Shard, Ranges, dict[str, str], dict[int, int]]]:
        """Shards that have some of the slots, which these are, and of the master what INFO says, and its keys."""
        for shard in self._routes.shards():
            if mine := meet(shard.slots, self._endpoint.slots):
                server, spaces = (_fields(one) for one in self._all(shard.master, 0, INFO))
                found = {name: KEYS.match(value) for name, value in spaces.items() if name.startswith("db")}
                yield shard, mine, server, {int(name[2:]): int(keys[1]) for name, keys in found.items() if keys}

    def _places(self) -> list[Address]:
        """Masters that have some of the slots, or are about to be given some: all keys may be at those by now."""
        mine, found = members(self._endpoint.slots), list[Address]()
        for shard in self._routes.shards():
            if meet(shard.slots, self._endpoint.slots):
                view = self._routes.view(self._routes.ask(shard.master, 0, LAYOUT), shard.master)
                found += [shard.master, *(at for slot, (_, at) in view.heirs.items() if slot in mine)]
        return list(dict.fromkeys(found))

    def _count(self, at: Address, db: int, slots: Ranges) -> int:
        commands: list[Command] = [(b"CLUSTER", b"COUNTKEYSINSLOT", one) for one in sorted(members(slots))]
        return sum(map(int, self._all(at, db, commands)))

    def full(self) -> tuple[Position, list[int]]:
        return NOWHERE, self.databases()

    def databases(self) -> list[int]:
        return sorted(OfCluster.spaces(self)[1])

    def scan(self, db: int, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """One step over the slots, with a cursor of their own."""
        return self._walk.step(db, cursor, count)

    def walk(self, db: int, cursor: int, count: int) -> tuple[str, Position, int, list[bytes]]:
        """The same; such a cursor is worth something for any process, so none is named."""
        return "", NOWHERE, *self._walk.step(db, cursor, count)

    # --- keys

    def there_at(self, db: int, keys: Sequence[bytes]) -> tuple[Position, list[bool]]:
        said = self._about(db, keys, lambda one: [(b"EXISTS", keys[one])])
        return NOWHERE, [bool(self._sure(one[0])) for one in said]

    def times(self, db: int, keys: Sequence[bytes]) -> Times:
        found: dict[int, int] = {}
        if b"PEXPIRETIME" not in self._unknown:
            said = self._about(db, keys, lambda one: [(b"PEXPIRETIME", keys[one])], b"PEXPIRETIME")
            if said:
                return Times(NOWHERE, [int(one[0]) for one in said])
        left = list(range(len(keys)))
        while left:
            asked = left
            said = self._about(
                db, [keys[one] for one in asked],
                lambda at: [(b"TIME",), (b"PTTL", keys[asked[at]]), (b"TIME",)],  # noqa: B023 - asked at once
            )  # fmt: skip
            for one, (before, ttl, after) in zip(asked, said, strict=True):
                if ttl < 0 or _ms(before) == _ms(after):
                    found[one] = ttl if ttl < 0 else _ms(before) + ttl
            left = [one for one in asked if one not in found]
        return Times(NOWHERE, [found[one] for one in range(len(keys))])

    def field_times(self, databases: Sequence[int], hashes: Hashes) -> Times:
        times: list[list[int]] = [[NO_HASH] * len(names) for _, names in hashes]
        for db, some in _by_database(databases):
            def words(at: int, some: Sequence[int] = some) -> list[Command]:
                key, names = hashes[some[at]]
                return [(b"HPEXPIRETIME", key, b"FIELDS", len(names), *names), (b"EXISTS", key)]

            said = self._about(db, [hashes[one][0] for one in some], words, b"HPEXPIRETIME")
            for one, (fields, there) in zip(some, said, strict=bool(said)):
                if there and not isinstance(fields, ReplyError):
                    times[one] = fields
        return Times(NOWHERE, [time for some in times for time in some])

    def values(self, keys: Sequence[tuple[int, bytes]]) -> Values:
        found = self._read(keys, b"PEXPIRETIME") or self._read(keys, b"PTTL")
        assert found is not None
        return found

    def _read(self, keys: Sequence[tuple[int, bytes]], when: bytes) -> Values | None:
        if when in self._unknown:
            return None
        aside = None if self.spool is None else Aside(self.spool)
        values: list[bytes | Kept | None] = [None] * len(keys)
        times, exact = [0] * len(keys), True
        for db, some in _by_database([db for db, _ in keys]):
            def words(at: int, some: Sequence[int] = some) -> list[Command]:
                key = keys[some[at]][1]
                asked: list[Command] = [(b"DUMP", key), (when, key)]
                return asked if when == b"PEXPIRETIME" else [(b"TIME",), *asked, (b"TIME",)]

            said = self._about(db, [keys[one][1] for one in some], words, when, aside)
            if not said:
                return None
            for one, answers in zip(some, said, strict=True):
                if when == b"PEXPIRETIME":
                    value, times[one] = answers
                else:
                    before, value, ttl, after = answers
                    times[one] = ttl if ttl < 0 else _ms(before) + ttl
                    exact = exact and _ms(before) == _ms(after)
                kept = value if aside is None or value is None else aside.values.get(value, value)
                values[one] = None if value and is_nothing(value) else kept
        return Values(NOWHERE, values, times, exact, replica=False)

    def sizes(self, keys: Sequence[tuple[int, bytes]]) -> list[int]:
        sizes = [0] * len(keys)
        for db, some in _by_database([db for db, _ in keys]):
            names = [keys[one][1] for one in some]
            said = self._about(db, names, lambda at, names=names: [(b"MEMORY", b"USAGE", names[at])])  # type: ignore[misc]
            for one, (held,) in zip(some, said, strict=True):
                sizes[one] = int(self._sure(held) or 0)
        return sizes

    def touch(self, db: int, keys: list[bytes]) -> None:
        self.there_at(db, keys)

    def _about(
        self, db: int, keys: Sequence[bytes], words: Callable[[int], Sequence[Command]], newest: bytes | None = None,
        aside: Aside | None = None,
    ) -> list[list[Any]]:  # fmt: skip
        """What each key's commands have answered; []: the servers do not have the command `newest`."""
        if newest in self._unknown or not keys:
            return []
        found: list[list[Any]] = []
        for said in self._routes.about(db, keys, words, aside):
            if not isinstance(said, ReplyError):
                found.append(said)
            elif newest is not None and _is_unknown(said):
                self._unknown.add(newest)
                return []
            else:
                raise self._refused(said)
        return found

    def _all(self, at: Address, db: int, commands: Sequence[Command]) -> list[Any]:
        return [self._sure(answer) for answer in self._routes.ask(at, db, commands)]

    def _sure(self, answer: Any) -> Any:
        if isinstance(answer, ReplyError):
            raise self._refused(answer)
        return answer


def _by_database(databases: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Databases, and the numbers of those that are in each."""
    for db in sorted(set(databases)):
        yield db, [number for number, one in enumerate(databases) if one == db]
