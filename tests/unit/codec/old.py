"""Whole RDBs of versions 1 to 9, as the servers of their time wrote them."""

from __future__ import annotations

import struct

from tests.unit.codec.rdb import crc64, entry, raw
from tests.unit.codec.samples import VALUES

NEW_IN: dict[int, tuple[int, ...]] = {
    1: (0, 1, 2, 3, 4),
    2: (9, 10, 11, 12),
    4: (13,),
    7: (14,),
    8: (5, 7),
    9: (15,),
}
"""RDB version to the types that came with it: Redis 1.2, 2.4, 2.6, 3.2, 4.0 and 5.0."""

VERSIONS = range(1, 10)
EXPIRES = 1_900_000_000  # seconds


def kinds(version: int) -> list[int]:
    """Types that an RDB of this version may hold."""
    return sorted(kind for since, new in NEW_IN.items() if since <= version for kind in new)


def old(version: int) -> bytes:
    """Two databases, with a key of each type and, once times were of ms, some that expire."""
    parts = [b"REDIS%04d" % version]
    if version >= 7:
        parts += [b"\xfa" + raw(b"redis-ver") + raw(b"3.2.0")]
    for db in (0, 3):
        parts.append(b"\xfe" + bytes([db]))
        if version >= 7:
            parts.append(b"\xfb\x08\x02")
        for kind in kinds(version):
            when = b""
            if kind % 2 and version < 3:
                when = b"\xfd" + struct.pack("<i", EXPIRES)
            elif kind % 2:
                when = b"\xfc" + struct.pack("<q", 1000 * EXPIRES)
            parts.append(when + entry(b"k%d" % kind, kind, VALUES[kind]))
    body = b"".join(parts) + b"\xff"
    return body + (crc64(body).to_bytes(8, "little") if version >= 5 else b"")
