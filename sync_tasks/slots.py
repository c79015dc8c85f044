"""Hash slots of a cluster. Where each key is asked, `workers.codec.slots_cy` tells the same."""

from __future__ import annotations

from binascii import crc_hqx

SLOTS = 16384


def slot(key: bytes) -> int:
    """The hash slot of a key, as a cluster counts: what stands in the first braces alone, if anything does."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    if start >= 0 and end > start + 1:
        key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS
