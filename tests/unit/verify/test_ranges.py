"""Ranges of cursors that are walked side by side, over a table that is made smaller meanwhile: no key is nobody's."""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any

import pytest

from workers.spool.ranges import Range
from workers.verify.scan import SCAN_COUNT, scan

BITS = 3
RANGES = [Range(BITS, index, "") for index in range(1 << BITS)]


class Table:
    """A server's table of keys, and SCAN over it: Redis src/dict.c, dictScan."""

    def __init__(self, keys: int) -> None:
        self.keys = [b"k:%d" % number for number in range(keys)]
        self.bits = 13
        self.pace = SimpleNamespace(most=lambda keys, _: (keys, 0))

    def ask(self, _db: int, request: bytes, count: int) -> list[Any]:
        words = [word for word in request.split(b"\r\n") if word and word[:1] not in b"*$"]
        found: list[Any] = []
        while words:
            if words.pop(0) == b"SCAN":
                found.append(self._scan(int(words[0])))
                del words[:3]
            else:
                found.append(b"# Keyspace\r\ndb0:keys=%d,expires=0\r\n" % len(self.keys))
                del words[:1]
        assert len(found) == count
        return found

    def _scan(self, cursor: int) -> tuple[bytes, list[bytes]]:
        buckets: dict[int, list[bytes]] = {}
        for key in self.keys:
            buckets.setdefault(zlib.crc32(key) & ((1 << self.bits) - 1), []).append(key)
        found: list[bytes] = []
        cursor &= (1 << self.bits) - 1
        while True:
            found += buckets.get(cursor, [])
            turned = int(f"{cursor:0{self.bits}b}"[::-1], 2) + 1
            cursor = int(f"{turned:0{self.bits}b}"[::-1], 2) if turned >> self.bits == 0 else 0
            if cursor == 0 or len(found) >= SCAN_COUNT:
                return b"%d" % cursor, found


def walked(table: Table, cursors: Range) -> set[bytes]:
    server: Any = SimpleNamespace(link=table)
    return {key for keys in scan(server, 0, cursors) for key in keys}


@pytest.mark.parametrize("late", RANGES, ids=lambda one: str(one.index))
@pytest.mark.parametrize("left", [3, 40])
def test_a_key_is_in_a_range_though_the_table_has_no_bucket_for_each(late: Range, left: int) -> None:
    """Most keys expire when all other ranges are done; those of the last one are still its own."""
    table = Table(8000)
    seen: set[bytes] = set()
    for one in RANGES:
        if one != late:
            seen |= walked(table, one)
    own = [key for key in table.keys if key not in seen]
    assert len(own) > left
    table.keys, table.bits = own[:left], 2
    assert walked(table, late) == set(own[:left])


def test_while_it_is_large_a_key_is_in_one_range() -> None:
    table = Table(8000)
    seen = [key for one in RANGES for key in walked(table, one)]
    assert sorted(seen) == sorted(table.keys)
