"""What of a source is copied, and where to: databases, beginnings of names, hash slots, to be compared and cut down.

A task may be given another extent while it runs. The target's checkpoint says of which one the target is exact; what
two have in common goes on all the while.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from sync_tasks import slots as hash_slots
from sync_tasks.keyfilter import FilterSpec, KeyFilter, prefix
from sync_tasks.slots import Ranges


def _least(given: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """In order, without those that begin with another one."""
    found: list[bytes] = []
    for one in sorted(given):
        if not found or not one.startswith(found[-1]):
            found.append(one)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Names:
    """Names that begin with one of `allow` (none given: all) and with none of `block`; equal ones are the same set."""

    allow: tuple[bytes, ...] = ()
    block: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, allow: tuple[bytes, ...], block: tuple[bytes, ...]) -> Names:
        """Without what makes no difference."""
        block = _least(block)
        allow_left = tuple(one for one in _least(allow) if not one.startswith(block)) if block else _least(allow)
        if allow and not allow_left:
            return NOTHING
        if allow_left:
            block = tuple(one for one in block if one.startswith(allow_left))
        return cls(allow_left, block)

    @classmethod
    def given(cls, one: KeyFilter) -> Names:
        """As a filter's settings say."""
        return cls.of(tuple(map(prefix, one.allow_prefixes)), tuple(map(prefix, one.block_prefixes)))

    def meet(self, other: Names) -> Names:
        """Names that are in both."""
        block = self.block + other.block
        if not self.allow or not other.allow:
            return Names.of(self.allow or other.allow, block)
        longer = [one for one in self.allow if one.startswith(other.allow)]
        longer += [one for one in other.allow if one.startswith(self.allow)]
        return Names.of(tuple(longer), block) if longer else NOTHING

    def takes(self, name: bytes) -> bool:
        """Whether a name is one of them."""
        return (not self.allow or name.startswith(self.allow)) and not (self.block and name.startswith(self.block))


ALL = Names()
NOTHING = Names((), (b"",))
"""All names begin with nothing."""


@dataclass(frozen=True)
class Extent:
    """Databases, and names in them.

    Args:
        databases: source to target number; None: all, each to its own.
        usual: names of databases that have no others in `own`.
        own: by the source's number of a database.
        slots: of a source node of a cluster: the hash slots that it carries; None: all.
    """

    databases: dict[int, int] | None = None
    usual: Names = ALL
    own: dict[int, Names] = field(default_factory=dict)
    slots: Ranges | None = None

    @classmethod
    def of(cls, databases: dict[int, int] | None, spec: FilterSpec, slots: Ranges | None = None) -> Extent:
        """As a task's settings say, and of what slots a source node is."""
        own = {int(db): Names.given(one) for db, one in spec.db.items()}
        return cls(databases, Names.given(spec), own, slots)._plain()

    @classmethod
    def parse(cls, text: str) -> Extent:
        """What `text` has written. Raises ValueError, KeyError, TypeError if it is nothing of the kind."""
        table = json.loads(text)
        databases = table["databases"]
        return cls(
            None if databases is None else {int(db): int(to) for db, to in databases.items()},
            _names(table["usual"]),
            {int(db): _names(one) for db, one in table["own"].items()},
            hash_slots.read(table["slots"]) if "slots" in table else None,
        )

    @cached_property
    def text(self) -> str:
        """In JSON: the same for the same extent."""
        databases = None if self.databases is None else {str(db): to for db, to in sorted(self.databases.items())}
        own = {str(db): _written(one) for db, one in sorted(self.own.items())}
        table: dict[str, Any] = {"databases": databases, "usual": _written(self.usual), "own": own}
        if self.slots is not None:
            table["slots"] = hash_slots.written(self.slots)
        return json.dumps(table, separators=(",", ":"))

    @property
    def acts_on(self) -> Ranges:
        """Hash slots of its keys: none, whichever it names, if no database is copied (a lane that was just made)."""
        if self.databases == {}:
            return ()
        return hash_slots.ALL if self.slots is None else self.slots

    def target(self, db: int) -> int | None:
        """Where a source database goes; None: nowhere."""
        return db if self.databases is None else self.databases.get(db)

    def names(self, db: int) -> Names:
        """Which of the names in a source database are in it."""
        return NOTHING if self.target(db) is None else self.own.get(db, self.usual)

    def takes(self, db: int, name: bytes) -> bool:
        """Whether a key of a source database is in it."""
        return self.names(db).takes(name) and hash_slots.has(self.slots, name)

    def meet(self, other: Extent) -> Extent:
        """What is in both, and goes to the same place."""
        databases = self.databases if other.databases is None else other.databases
        if databases is not None:
            databases = {db: to for db, to in databases.items() if self.target(db) == other.target(db) == to}
        own = {db: self._of(db).meet(other._of(db)) for db in {*self.own, *other.own}}
        return Extent(databases, self.usual.meet(other.usual), own, hash_slots.meet(self.slots, other.slots))._plain()

    def without(self, slots: Ranges) -> Extent:
        """All of it but these hash slots."""
        if not slots:
            return self
        left = hash_slots.members(hash_slots.ALL if self.slots is None else self.slots) - hash_slots.members(slots)
        return replace(self, slots=hash_slots.ranges(left))

    def covers(self, other: Extent) -> bool:
        """Whether all of the other is in it, and goes to the same place."""
        return self.meet(other) == other._plain()

    def adds(self, before: Extent, db: int) -> bool:
        """Whether keys of a source database are in it that were not before, or that went elsewhere."""
        if self.target(db) is None:
            return False
        mine = self.names(db)
        if self.target(db) != before.target(db) or before.names(db).meet(mine) != mine:
            return True
        return hash_slots.meet(self.slots, before.slots) != self.slots

    def _of(self, db: int) -> Names:
        return self.own.get(db, self.usual)

    def _plain(self) -> Extent:
        """Without what makes no difference."""
        databases, own, usual = self.databases, self.own, self.usual
        if databases is None:
            return Extent(None, usual, {db: one for db, one in own.items() if one != usual}, self.slots)
        every = {db: own.get(db, usual) for db in databases}
        databases = {db: to for db, to in databases.items() if every[db] != NOTHING}
        return Extent(databases, ALL, {db: every[db] for db in databases if every[db] != ALL}, self.slots)


def _names(table: dict[str, Any]) -> Names:
    allow, block = ([one.encode("latin-1") for one in table[name]] for name in ("allow", "block"))
    return Names(tuple(allow), tuple(block))


def _written(one: Names) -> dict[str, list[str]]:
    return {
        "allow": [name.decode("latin-1") for name in one.allow],
        "block": [name.decode("latin-1") for name in one.block],
    }
