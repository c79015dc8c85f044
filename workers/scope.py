"""Which databases and keys of the source travel, and to which target database."""

from __future__ import annotations

from sync_tasks.keyfilter import FilterSpec, KeyFilter, prefix
from workers.codec.filter_cy import Filter


class Scope:
    """The mapping of databases, and the filter of keys.

    Args:
        databases: source to target number; None means all, each to its own.
        filter_spec: which keys and commands travel; None: all.
    """

    def __init__(self, databases: dict[int, int] | None, filter_spec: FilterSpec | None = None) -> None:
        self.databases = databases
        spec = filter_spec or FilterSpec()
        self.filtered = spec.keys_filtered
        self.blocked = frozenset(name.encode() for name in spec.block_commands)  # commands
        self._usual = _compiled(spec)
        self._own = {int(db): _compiled(one) for db, one in spec.db.items()}

    def target(self, db: int) -> int | None:
        """Where a source database goes; None: nowhere."""
        return db if self.databases is None else self.databases.get(db)

    def sources(self, target: int) -> list[int]:
        """Which source databases go to one of the target: several, where they are merged there."""
        return [target] if self.databases is None else sorted(s for s, t in self.databases.items() if t == target)

    def shares(self, db: int) -> bool:
        """Whether a source database in scope has to share its target database with others' keys."""
        target = self.target(db)
        return target is not None and (self.filtered or len(self.sources(target)) > 1)

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


def _compiled(one: KeyFilter) -> Filter | None:
    if not one.active:
        return None
    return Filter([prefix(text) for text in one.allow_prefixes], [prefix(text) for text in one.block_prefixes])
