"""What is added: all that there will be, without what the stream acts on already."""

from __future__ import annotations

from sync_tasks import slots as hash_slots
from sync_tasks.names import KEY_PREFIX
from sync_tasks.slots import Ranges, members, ranges
from workers.rewrite import SCRIPTS
from workers.scope import Scope
from workers.trimmed import TRIM, trimmed


class Difference:
    """Between two scopes.

    Args:
        scope: of all that there will be.
        so_far: what the stream acts on.
    """

    def __init__(self, scope: Scope, so_far: Scope) -> None:
        self._scope, self._so_far = scope, so_far

    @property
    def slots(self) -> Ranges:
        """Of a source that is a cluster: the hash slots that are added."""
        all_ = self._scope.extent.slots
        return () if all_ is None else ranges(members(all_) - members(self._so_far.extent.acts_on))

    def has(self, db: int, key: bytes) -> bool:
        """Whether a key of a source database is added."""
        return self._scope.takes(db, key) and not key.startswith(KEY_PREFIX) and not self.had(db, key)

    def had(self, db: int, key: bytes) -> bool:
        """Whether the stream acts on it already, at the same place."""
        return self._so_far.takes(db, key) and self._so_far.target(db) == self._scope.target(db)

    def adds(self, db: int) -> bool:
        """Whether keys of a source database are added."""
        return self._scope.extent.adds(self._so_far.extent, db)

    def sources(self, to: int) -> list[int]:
        """The source's databases by which something is added to one of the target's."""
        return [db for db in self._scope.sources(to) if self.adds(db)]

    def concerns(self, argv: list[bytes], db: int) -> bool:
        """Whether a command on whole databases, or slots, or a script that may do anything, changes what is added."""
        name = argv[0].upper()
        if name == TRIM:
            return bool(hash_slots.meet(self.slots, trimmed(argv)))
        if name == b"SWAPDB":
            return self.adds(int(argv[1])) or self.adds(int(argv[2]))
        return name in SCRIPTS or name == b"FLUSHALL" or self.adds(db)
