"""Which of the target's keys a task has brought there, as far as that is known."""

from __future__ import annotations

from collections.abc import Sequence

from sync_tasks.extent import Extent
from workers.codec.digest_cy import among, distinct
from workers.difference import Difference
from workers.spool.hash_files import bits_of
from workers.spool.known import Known


class Brought:
    """Of one node.

    Args:
        known: names that its source has had, in scope or not.
        former: what the task's run has copied before. A name that was never in one of them is not ours, though the
            source has had it: it is the target's own.
        difference: what is added. What the stream acts on already is left to it.
    """

    def __init__(self, known: Known, former: Sequence[Extent], difference: Difference) -> None:
        self._known, self._former, self._difference = known, former, difference

    def of(self, to: int, names: list[bytes], more: Sequence[Extent] = ()) -> tuple[list[bytes], int]:
        """Those of names in a database of the target, in order; and how many others may be, but nobody knows any more.

        Args:
            more: what is, or was, copied besides.
        """
        extents = [*self._former, *more]
        found: set[bytes] = set()
        fits: set[bytes] = set()
        for db in {db for one in extents for db in ([to] if one.databases is None else one.databases)}:
            fitting = [one for one in extents if one.target(db) == to]
            mine = [n for n in names if any(one.takes(db, n) for one in fitting) and not self._difference.had(db, n)]
            fits.update(mine)
            if mine:
                found.update(self._among(db, mine))
        # Made anew, it lacks what was out of scope, or gone, at that moment.
        return sorted(found), 0 if self._known.covers(0, 0) else len(fits - found)

    def _among(self, db: int, names: list[bytes]) -> list[bytes]:
        bits = bits_of(self._known.count(db))
        parts = (distinct(self._known.part(db, bits, part)) for part in range(1 << bits))
        return [name for part in parts for name in among(names, part, self._known.seed)]
