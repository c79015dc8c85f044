"""Hash slots of a cluster, as ranges: which of them a source node carries. `None` instead of them means all.

Source: Redis Cluster specification, "Hash tags" and appendix A: CRC16 (XMODEM) of the key or its tag, modulo 16384.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable

SLOTS = 16384
Ranges = tuple[tuple[int, int], ...]
"""First and last slot of each range, ascending, with a gap between any two."""
ALL: Ranges = ((0, SLOTS - 1),)


def slot(key: bytes) -> int:
    """Slot 0..16383 of a key. Its tag stands between the first { and the next }, if not empty."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


def ranges(slots: Iterable[int]) -> Ranges:
    """Slots as ranges."""
    found: list[tuple[int, int]] = []
    for one in sorted(set(slots)):
        if found and found[-1][1] == one - 1:
            found[-1] = (found[-1][0], one)
        else:
            found.append((one, one))
    return tuple(found)


def members(given: Ranges) -> set[int]:
    """The slots of ranges."""
    return {one for first, last in given for one in range(first, last + 1)}


def size(given: Ranges) -> int:
    """How many slots they are."""
    return sum(last - first + 1 for first, last in given)


def meet(one: Ranges | None, other: Ranges | None) -> Ranges | None:
    """Slots that are in both."""
    if one is None or other is None:
        return other if one is None else one
    pairs = ((max(a, c), min(b, d)) for a, b in one for c, d in other)
    return ranges(slot for first, last in pairs for slot in range(first, last + 1))


def mask(given: Ranges) -> int:
    """A bit for each of the slots, to see at once whether some are in two of these."""
    found = 0
    for first, last in given:
        found |= ((1 << (last - first + 1)) - 1) << first
    return found


def has(given: Ranges | None, key: bytes) -> bool:
    """Whether the slot of a key is one of them."""
    if given is None:
        return True
    number = slot(key)
    return any(first <= number <= last for first, last in given)


def table(given: Ranges) -> bytes:
    """A byte for each slot, 1 for those that are given, as `workers.codec.filter_cy.Filter` takes it."""
    found = bytearray(SLOTS)
    for first, last in given:
        found[first : last + 1] = b"\1" * (last - first + 1)
    return bytes(found)


def written(given: Ranges) -> str:
    """As people and CLUSTER NODES write them, with commas: 0-5460,7000."""
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in given)


def read(text: str) -> Ranges:
    """What `written` has written. Raises ValueError for anything else."""
    pairs = (part.partition("-") for part in text.split(",") if part)
    return ranges(one for first, _, last in pairs for one in range(int(first), int(last or first) + 1))
