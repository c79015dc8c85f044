"""Letting go of what is on the target: of the log, once what it names is known, and of chunks."""

from __future__ import annotations

import shutil
from pathlib import Path

from workers.spool.known import Known
from workers.spool.log import Log
from workers.spool.removing import remove_snapshots
from workers.spool.stored import Stored

LEAST_BYTES = 16 << 20
BUSY_LEAST_BYTES = 512 << 20
"""So much is let go of at a time; the latter while much comes in, from which what it takes is not to be taken."""
BUSY_BYTES = 1 << 20
"""Of the stream, between two turns."""


class Pruning:
    """Args:
    log, known: of the node.
    """

    def __init__(self, log: Log, known: Known) -> None:
        self._log, self._known = log, known
        self._pruned = self._ended = 0  # offsets: up to where it was let go of, and its end at the last turn

    def turn(self, upto: int) -> None:
        """Args:
        upto: offset up to which nobody reads the log any more.
        """
        self._pruned = min(self._pruned, upto)  # another stream's offsets may be smaller
        ended, self._ended = self._ended, self._log.end or 0
        if upto - self._pruned > (BUSY_LEAST_BYTES if self._ended - ended > BUSY_BYTES else LEAST_BYTES):
            self._pruned = upto
            self._known.fold(self._log, upto)
            taken_in = self._known.offset
            self._log.prune(upto if taken_in is None else min(upto, taken_in))


def let_go(directory: Path, gen: int, stored: Stored | None) -> None:
    """Remove a node's snapshots up to number `gen`: those in its directory, and what an object store has of them."""
    for old in directory.iterdir():  # not `glob`, which compiles an expression
        if old.name.startswith("gen-") and int(old.name[4:]) <= gen:
            shutil.rmtree(old, ignore_errors=True)
    if stored is not None:
        remove_snapshots(stored.store, directory.relative_to(stored.spool).as_posix(), gen)
