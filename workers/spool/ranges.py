"""Ranges of cursors by which a database is walked, side by side (DESIGN 7).

SCAN counts its cursor in reversed bits: it changes the high ones first. So all cursors with the same `bits` low ones
follow each other, and a walk that begins at the first of them, and ends at the first that is not, sees the keys of the
buckets with those low bits: all of them, however the table grows or shrinks meanwhile. Where it has fewer buckets, a
walk sees others' keys, too. Source: Redis src/dict.c, dictScan; Valkey's tables count alike.

A range that is still to be read is a chunk whose file is not there yet: the name that it has until then says which
range it is. Who has read it gives the row the name of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MOST_BITS = 6
KEYS = 20_000
"""So many keys, about, are a range."""


@dataclass(frozen=True, slots=True)
class Range:
    """The cursors whose low `bits` bits are `index`, of the process `run` of a source."""

    bits: int
    index: int
    run: str

    def path(self, directory: Path, seq: int) -> str:
        """What its chunk's row names until it is read."""
        return str(directory / f"{seq:06d}-{self.bits}-{self.index}-{self.run}.range")

    @classmethod
    def parse(cls, path: str) -> Range:
        """Of such a name."""
        _, bits, index, run = Path(path).stem.split("-", 3)
        return cls(int(bits), int(index), run)

    @property
    def after(self) -> int | None:
        """The first cursor of the range that follows; None: none does."""
        turned = int(f"{self.index:0{self.bits}b}"[::-1], 2) + 1
        return None if turned >> self.bits else int(f"{turned:0{self.bits}b}"[::-1], 2)

    def follows(self, cursor: int) -> bool:
        """Whether a cursor that SCAN has answered is of the range."""
        return cursor != 0 and cursor & ((1 << self.bits) - 1) == self.index


def bits_of(keys: int, first: int) -> int:
    """Into how many ranges, as a power of 2, a database is cut.

    Args:
        keys: that it has.
        first: cursor that the first SCAN has answered: where it is none of a table of that size, the source counts in
            its own way, and is walked over in one go.
    """
    if first > 64 * max(keys, 16):
        return 0
    return min(MOST_BITS, max(0, (keys // KEYS).bit_length() - 1))
