"""What a stream has named, of what is being added beside it (`workers.adding`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from workers.difference import Difference
from workers.keys_of import Asking, Command, Key, keys_of
from workers.merging import Named
from workers.repair import MOST_DOUBTED
from workers.rewrite import SCRIPTS, WHOLE
from workers.spool.commands import commands, placed
from workers.spool.log import Log
from workers.target.link import TargetLink
from workers.trimmed import TRIM
from workers.wanted import Wanted

ROUND_KEYS, STRETCH_BYTES = 100_000, 64 << 20
"""More keys than this, and more of the stream, are not looked at in one round."""
STEP_S = 0.05


class Passed:
    """Of one addition.

    Args:
        log: of the node.
        link: to the target, which says what a command's keys are where we do not know.
        ask: the source, which knows also those of its commands that the target does not.
        difference: what is added.
        pause: waits so many seconds; raises when the job is to stop.
    """

    def __init__(
        self,
        log: Log,
        link: TargetLink,
        ask: Asking,
        difference: Difference,
        pause: Callable[[float], None],
    ) -> None:
        self._log, self._link, self._ask, self._difference, self._pause = log, link, ask, difference, pause

    def names(self, start: int, stop: int, db: int) -> Named:
        """Commands between two offsets, each with the keys that it names.

        Args:
            db: the stream's database at the first.
        """
        return keys_of(self._link, commands(self._log, start, stop, db, lambda: self._pause(STEP_S)), self._ask)

    def changed(self, at: tuple[int, int], tip: tuple[int, int, str]) -> tuple[set[Key], int, int] | None:
        """Keys that are added, and that the stream names up to an offset; that, and the stream's database there; None:
        it may have changed any of them. Where nothing is in scope so far, any amount may pass at once: so that may be
        long before the end, between two commands and outside of a transaction.

        Args:
            at: an offset, and the stream's database there.
            tip: the end, as `Chain.tip`.
        Raises Wanted: they are too many.
        """
        found, ends, inside = set[Key](), deque[tuple[int, int]](), False
        (start, db), (stop, last, _) = at, tip

        def told() -> Iterator[Command]:
            for end, number, argv in placed(self._log, start, stop, db, lambda: self._pause(STEP_S)):
                ends.append((end, number))
                yield number, argv

        for (number, argv), places in keys_of(self._link, told(), self._ask):
            name, (end, there) = argv[0].upper(), ends.popleft()
            if not ends:
                self._pause(0)  # the job may be to stop
            many = name in WHOLE or name == TRIM or (name in SCRIPTS and not places)
            if many and self._difference.concerns(argv, number):
                return None
            found |= {place for place in places if self._difference.has(*place)}
            if len(found) > MOST_DOUBTED:
                raise Wanted(f"over {MOST_DOUBTED} keys that are added were changed faster than they could be copied")
            inside = name == b"MULTI" or (inside and name != b"EXEC")
            if (len(found) >= ROUND_KEYS or end - start >= STRETCH_BYTES) and not inside and end < stop:
                return found, end, there
        return found, stop, last
