"""A transform's commands for one part of a target cluster: all pass the script, what falls into its slots is kept.

Which part that is only what the script returns tells. So each lane has the script called for every command, with
nothing kept from the calls before: it hears the same as the others do. What names keys of several slots is split where
the result is the same. Else, if it is the source's own command, its keys are copied anew, which calls the script for
the values; anything else is an error, in all lanes alike.
"""

from __future__ import annotations

from typing import Any

from sync_tasks.errors import TransformError, named
from sync_tasks.transform.script import Script
from workers.codec.resp_cy import KEYED
from workers.codec.slots_cy import slot
from workers.compose import emit, select
from workers.crossing import divide
from workers.rewrite import ANY, IGNORED, MOVING, SCRIPTS, SERVER_WIDE, STREAM, WHOLE, Key, Rewriter
from workers.scope import Scope
from workers.single import SINGLE
from workers.target.windows import Window
from workers.transform import Transformer
from workers.trimmed import TRIM

ALONE = IGNORED | STREAM | WHOLE | SERVER_WIDE | SCRIPTS | {TRIM}
"""Commands that name no keys, or that no script of the user's sees."""


class LaneTransformer(Transformer):
    """Arguments as of `Transformer`. The scope has a lane, and is not cut down to it (`Scope.shown`)."""

    def __init__(self, script: Script, scope: Scope, *args: Any, **options: Any) -> None:
        super().__init__(script, scope, *args, **options)
        self._plain = Rewriter(scope.of_lane(), *args, **options)
        self._results = Rewriter(Scope(None, lane=scope.lane), *args, **options)
        self._plain.floats = self._results.floats = False

    def write(self, kind: str, argv: list[bytes], db: int, before: int, after: int, window: Window) -> None:
        """As `Transformer.write`."""
        if kind == "server-wide":
            self._plain.write(kind, argv, db, before, after, window)
        else:
            super().write(kind, argv, db, before, after, window)

    def _as_it_is(self, argv: list[bytes], db: int, before: int, after: int, window: Window) -> None:
        window.changes -= 1  # it is counted once
        self._put_in(self._plain, argv, db, before, after, window)

    def _one(self, result: list[bytes], argv: list[bytes], db: int, before: int, after: int, window: Window) -> None:
        name, same = result[0].upper(), result[0].upper() == argv[0].upper()
        if self._kind(name) == "unknown" and not same:
            raise TransformError(f"the target does not know {named(result)}", 0, argv)
        try:
            if not same and self._is_apart(result):
                raise TransformError(
                    f"transform returned {named(result)}, which names keys of several hash slots, and the target is a"
                    " cluster",
                    0, argv,
                )  # fmt: skip
            self._put_in(self._results, result, db, before, after, window)
        except (ValueError, IndexError, StopIteration) as error:
            what = f"transform returned {named(result)} with arguments that make no sense"
            raise TransformError(what, 0, argv) from error

    def _put_in(
        self, rewriter: Rewriter, argv: list[bytes], db: int, before: int, after: int, window: Window
    ) -> None:
        """What of a command falls into the lane's slots."""
        name, target = argv[0].upper(), rewriter.scope.target(db)
        kind = self._kind(name)
        if name in SINGLE and (kind is None or (len(argv) == 3 and name == b"SET")):
            window.changes += 1
            if target is not None and rewriter.scope.takes(db, argv[1]):
                select(window, target, before)
                emit(window, argv, before)
        else:
            rewriter.write(kind or KEYED, argv, db, before, after, window)

    def _is_apart(self, argv: list[bytes]) -> bool:
        """Whether no commands on keys of one slot each do the same."""
        name = argv[0].upper()
        if name in SINGLE:
            return False
        if name in MOVING:
            return name != b"MOVE" and slot(argv[1]) != slot(argv[2])
        if name == b"MSETEX":
            return len(set(map(slot, argv[2 : 2 + 2 * int(argv[1]) : 2]))) > 1
        return divide(argv, lambda _: True, self.older.places, slot) is None

    def stands_for(self, argv: list[bytes], db: int) -> frozenset[Key] | None:
        """As `Rewriter.stands_for`; the script is called to tell."""
        name = argv[0].upper()
        if name in self.scope.blocked:
            return None
        if (found := super().stands_for(argv, db)) is not None or name in ALONE:
            return found
        for part in self._parts(self._kind(name) or "", argv, db) or ():
            if (found := self._stands_for(part, db)) is not None:
                return found
        return None

    def _stands_for(self, argv: list[bytes], db: int) -> frozenset[Key] | None:
        given = self._script_of_user.run(db, argv)
        if given is None:
            return self._plain.stands_for(argv, db)
        usual = self.scope.target(db)
        origin = db if usual is None else usual
        apart = any(
            self._results.stands_for(result, origin if to is None else to) is not None for to, result in given
        )
        return ANY if apart else None
