"""Keys of the target where something is added (`workers.adding`) that the source does not have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sync_tasks.errors import CannotContinue, Side
from workers.brought import Brought
from workers.difference import Difference
from workers.scope import Scope
from workers.source.ask import Position, Source
from workers.wanted import Wanted


class Surplus:
    """Of one addition.

    Args:
        source: is asked what it has.
        scope: all that there will be.
        so_far: what the stream acts on.
        difference: what of the scope is added.
        brought: by the task.
        follow: told where the source's answers are true, and where they have to be at least.
        tell: an event for people: kind and text.
    """

    def __init__(
        self,
        source: Source,
        scope: Scope,
        so_far: Scope,
        difference: Difference,
        brought: Brought,
        follow: Callable[[Position, int], None],
        tell: Callable[[str, str], None],
    ) -> None:
        self._source, self._scope, self._so_far = source, scope, so_far
        self._difference, self._brought, self._follow, self._tell = difference, brought, follow, tell

    def missing(self, to: int, names: Sequence[bytes], base: int) -> list[bytes]:
        """Those of names in a database of the target, where something is added, that the source does not have.

        Args:
            base: stream offset; what the source says is not older.
        Raises what the source answers.
        """
        added, sources = self._difference.sources(to), self._scope.sources(to)
        left = [name for name in names if any(self._difference.has(db, name) for db in added)]
        for db in sources:
            mine = [name for name in left if self._scope.takes(db, name)]
            if mine:
                at, said = self._source.there_at(db, mine)
                self._follow(at, base)
                there = {name for name, found in zip(mine, said, strict=True) if found}
                left = [name for name in left if name not in there]
        return left

    def ours(self, to: int, names: list[bytes], *, again: bool, initial: bool = False) -> list[bytes]:
        """Those of them that we have brought.

        Args:
            again: the addition was begun before, so it may have put some.
            initial: as `Addition.initial`: all was loaded beside the stream, and nobody has removed anything since.
        Raises Wanted: another database, which the stream acts on, may have the place. CannotContinue: of an initial
            one, which of them were brought is not known any more; the source may have deleted them.
        """
        if not names:
            return []
        found, others = self._brought.of(to, names, [self._scope.extent] if again else [])
        if others and initial:
            raise CannotContinue(
                f"the stream since the load began, or the list of the keys that were brought, is not in this spool:"
                f" {others} keys of the target's database {to} are not at the source, and whether it has deleted them"
                " meanwhile cannot be told",
                side=Side.CONTROL,
                hint="let hosts share their spool, or see the worker's log for what happened to it; restart the task"
                " with an empty target",
            )
        if others:
            self._tell(
                "unverified",
                f"{others} keys of the target's database {to}, where something is added, are not at the source;"
                " which of them this task has brought earlier is not known any more: they stay",
            )
        if any(self._so_far.takes(db, name) for db in self._so_far.sources(to) for name in found):
            raise Wanted(f"keys of a database that is merged into the target's database {to} again have gone meanwhile")
        return found
