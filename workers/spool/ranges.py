"""Ranges of cursors by which a database is walked, side by side.

SCAN counts its cursor in reversed bits: it changes the high ones first. So all cursors with the same `bits` low ones
follow each other, and a walk that begins at the first of them, and ends at the first that is not, sees the keys of the
buckets with those low bits: all of them, however the table grows or shrinks meanwhile. Where it has fewer buckets, a
walk sees others' keys, too. Source: Redis src/dict.c, dictScan; Valkey's tables count alike.

A part of a cluster is cut by slots instead (`workers.source.slot_walk`).

A range that is still to be read is a chunk whose file is not there yet: the name that it has until then says which
range it is. Who has read it gives the row the name of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sync_tasks import slots as hash_slots
from sync_tasks.slots import Ranges

SLOTS = "slots"
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

    @property
    def after(self) -> int | None:
        """The first cursor of the range that follows; None: none does."""
        turned = int(f"{self.index:0{self.bits}b}"[::-1], 2) + 1
        return None if turned >> self.bits else int(f"{turned:0{self.bits}b}"[::-1], 2)

    def follows(self, cursor: int) -> bool:
        """Whether a cursor that SCAN has answered is of the range."""
        return cursor != 0 and cursor & ((1 << self.bits) - 1) == self.index


@dataclass(frozen=True, slots=True)
class SlotRange:
    """Slots of a cluster, wherever they are."""

    first: int
    last: int
    run = ""  # of any process
    index = 0  # the cursor with which a walk begins

    def path(self, directory: Path, seq: int) -> str:
        """As of a `Range`."""
        return str(directory / f"{seq:06d}-{SLOTS}-{self.first}-{self.last}.range")

    def follows(self, cursor: int) -> bool:
        """Whether a cursor of a walk over these slots is not at its end."""
        return cursor != 0


def parse(path: str) -> Range | SlotRange:
    """Of what such a name stands for."""
    _, bits, index, rest = Path(path).stem.split("-", 3)
    return SlotRange(int(index), int(rest)) if bits == SLOTS else Range(int(bits), int(index), rest)


def cut(slots: Ranges, keys: float) -> Iterator[tuple[SlotRange, int]]:
    """Ranges of slots, each with how many keys it has, about.

    Args:
        keys: of a slot, about.
    """
    most = max(1, int(KEYS / keys)) if keys else hash_slots.SLOTS
    for first, last in slots:
        count = -(-(last - first + 1) // most)
        for part in range(count):
            begin = first + (last - first + 1) * part // count
            end = first + (last - first + 1) * (part + 1) // count - 1
            yield SlotRange(begin, end), round(keys * (end - begin + 1))


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
