"""Which databases and keys of a source node travel, and to which target database."""

from __future__ import annotations

from dataclasses import replace

from sync_tasks import slots as hash_slots
from sync_tasks.extent import ALL, Extent, Names
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.lanes import Lane
from sync_tasks.names import KEY_PREFIX
from sync_tasks.slots import Ranges
from workers.codec.filter_cy import Filter

NOT_OURS = Names((), (KEY_PREFIX,))
"""All names but those of Keyferry's own keys."""


class Scope:
    """The mapping of databases, and the filter of keys.

    Args:
        databases: source to target number; None means all, each to its own.
        filter_spec: which keys and commands travel; None: all.
        slots: which hash slots a source node of a cluster carries: other nodes' keys are not in its scope. None: all.
        lane: of a target that is a cluster, the part that is meant; None: it is none.
        shown: of all lanes, though one is meant: a transform says what goes where. `of_lane` is what goes there else.

    one_slot: a command may name keys of one hash slot only, since the target is a cluster.
    """

    def __init__(
        self,
        databases: dict[int, int] | None,
        filter_spec: FilterSpec | None = None,
        slots: Ranges | None = None,
        lane: Lane | None = None,
        *,
        shown: bool = False,
    ) -> None:
        self.databases, self.slots = databases, slots
        spec = filter_spec or FilterSpec()
        both = slots if lane is None or shown else hash_slots.meet(slots, lane.slots)
        self.extent = Extent.of(databases, spec, both)
        self.lane, self.shown, self.one_slot = lane, shown, lane is not None and not shown
        self._apart = slots is not None and slots != hash_slots.ALL  # other nodes have their checkpoints there, too
        self._crowded = _filters(self.extent) or self._apart
        self.blocked = frozenset(name.encode() for name in spec.block_commands)  # commands
        self._usual = self._compiled(Names.given(spec))
        self._own = {int(db): self._compiled(Names.given(one)) for db, one in spec.db.items()}
        self._to_be: Scope | None = None

    @property
    def filtered(self) -> bool:
        """Whether keys of a source database in scope may be out of it."""
        return self._crowded or self.extent.slots is not None

    @classmethod
    def within(cls, extent: Extent, whole: Scope) -> Scope:
        """What of a scope travels so far: all of `whole` will, the rest of it is being added beside this.

        Args:
            extent: of that; `whole` covers it.
        """
        made = cls(extent.databases, FilterSpec(), None, whole.lane, shown=whole.shown)
        made.extent, made.blocked, made._to_be, made.slots = extent, whole.blocked, whole, whole.slots
        made._crowded, made._apart = _filters(extent) or whole._apart, whole._apart
        made._usual = made._compiled(extent.usual)
        made._own = {db: made._compiled(one) for db, one in extent.own.items()}
        return made

    def of_lane(self) -> Scope:
        """What goes to the lane, of the source's keys as they are."""
        assert self.lane is not None
        made = Scope.within(replace(self.extent, slots=hash_slots.meet(self.extent.slots, self.lane.slots)), self)
        made.shown, made.one_slot = False, True
        return made

    @property
    def turn(self) -> int:
        """Of the part of the target that is meant, as `Lane.turn`."""
        return 0 if self.lane is None else self.lane.turn

    @property
    def fields(self) -> list[bytes]:
        """Names and values of the checkpoint's fields that say of what the target is exact."""
        return [b"extent", self.extent.text.encode(), b"turn", b"%d" % self.turn]

    def target(self, db: int) -> int | None:
        """Where a source database goes; None: nowhere."""
        return db if self.databases is None else self.databases.get(db)

    def sources(self, target: int) -> list[int]:
        """Which source databases go to one of the target: several, where they are merged there."""
        return [target] if self.databases is None else sorted(s for s, t in self.databases.items() if t == target)

    def together(self, db: int, key: bytes) -> list[tuple[int, bytes]]:
        """All keys of the source that are the same one on the target: some more, where databases are merged."""
        target = self.target(db)
        if target is None or self.databases is None:
            return [(db, key)]
        return [(one, key) for one in self.sources(target) if one == db or self.takes(one, key)]

    def shares(self, db: int) -> bool:
        """Whether a source database in scope has to share its target database with others' keys: of a cluster, the
        part that is in one node."""
        target = self.target(db)
        if target is None:
            return False
        added = self._to_be is not None and len(self._to_be.sources(target)) > 1
        return self._crowded or added or len(self.sources(target)) > 1

    @property
    def shares_all(self) -> bool:
        """The same of all databases of the target, for FLUSHALL."""
        return self._crowded

    @property
    def apart(self) -> bool:
        """Whether other source nodes write to the target beside this one: those of a cluster."""
        return self._apart

    def filter(self, db: int) -> Filter | None:
        """Of the keys of a source database; None: all of them are in scope."""
        return self._own.get(db, self._usual)

    def takes(self, db: int, key: bytes) -> bool:
        """Whether a key of a source database travels."""
        key_filter = self.filter(db)
        return self.target(db) is not None and (key_filter is None or key_filter.takes(key))

    def ours(self, target: int, key: bytes) -> bool:
        """Whether a key of a target database may have come from the source."""
        return not self.filtered or any(self.takes(source, key) for source in self.sources(target))

    def _compiled(self, one: Names) -> Filter | None:
        slots = self.extent.slots
        if slots is None:
            return None if one == ALL else Filter([*one.allow], [*one.block])
        return Filter([*one.allow], [*one.block], hash_slots.table(slots))


def _filters(extent: Extent) -> bool:
    """Whether keys of the user's are left out. Without Keyferry's own keys alone, nothing has to be divided: those that
    come along with others are passed on, and do no harm."""
    return any(one not in (ALL, NOT_OURS) for one in (extent.usual, *extent.own.values()))
