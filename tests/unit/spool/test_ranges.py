"""Ranges of cursors: together they are all of them, and each walks alone, whatever the table does."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_tasks.slots import ranges
from tests.servers import StartServer
from workers.spool.ranges import Range, SlotRange, bits_of, cut, parse


def table_walk(start: int, size: int, others: list[int]) -> list[tuple[int, int]]:
    """(bucket, cursor behind it) of each step that a server makes from a cursor on.

    `others`: sizes that its table takes from step to step. Source: the comment in Redis src/dict.c, above dictScan."""
    steps, cursor = [], start
    while True:
        mask = size - 1
        bucket = cursor & mask
        cursor = _reversed((_reversed(cursor | (~mask & (2**64 - 1))) + 1) & (2**64 - 1))
        steps.append((bucket, cursor))
        size = others.pop(0) if others else size
        if cursor == 0:
            return steps


def _reversed(value: int) -> int:
    return int(f"{value:064b}"[::-1], 2)


@pytest.mark.parametrize(("bits", "size"), [(0, 8), (1, 8), (3, 8), (3, 64), (6, 64), (4, 4)])
def test_each_bucket_is_in_one_range(bits: int, size: int) -> None:
    seen: list[int] = []
    for index in range(1 << bits):
        one = Range(bits, index, "run")
        for bucket, cursor in table_walk(index, size, []):
            seen.append(bucket)
            if not one.follows(cursor):
                break
    assert set(seen) == set(range(size))
    if size >= 1 << bits:
        assert len(seen) == size, "and none twice"


def test_a_range_is_whole_while_the_table_grows_and_shrinks() -> None:
    """Every key whose hash has the range's low bits is seen, by buckets of whatever size there is then."""
    for sizes in ([8, 64, 8, 128, 16], [256, 16, 16, 512], [32, 4, 64]):
        for index in range(8):
            one, left = Range(3, index, "run"), {value for value in range(1024) if value & 7 == index}
            size, others = sizes[0], sizes[1:]
            masks = [size - 1, *(other - 1 for other in others)]
            for step, (bucket, cursor) in enumerate(table_walk(index, size, list(others))):
                mask = masks[min(step, len(masks) - 1)]
                left -= {value for value in left if value & mask == bucket}
                if not one.follows(cursor):
                    break
            assert not left, (sizes, index)


def test_a_name_says_which_range_it_is() -> None:
    one = Range(6, 63, "0123456789abcdef")
    assert parse(one.path(Path("/spool/gen-1"), 12)) == one
    some = SlotRange(5461, 10922)
    assert parse(some.path(Path("/spool/gen-1"), 12)) == some


def test_slots_are_cut_by_their_keys() -> None:
    """Each slot is in one range; some hold as many keys as a range is to have."""
    given = ((0, 5460), (7000, 7000))
    for keys in (0, 0.01, 10.0, 30_000.0):
        made = list(cut(given, keys))
        assert ranges(slot for one, _ in made for slot in range(one.first, one.last + 1)) == given
        assert sum(one.last - one.first + 1 for one, _ in made) == 5462, "none is in two"
        assert all(share <= 20_000 or one.first == one.last for one, share in made)
    assert [len(list(cut(given, keys))) for keys in (0, 0.01, 10.0)] == [2, 2, 4]


def test_how_many_ranges() -> None:
    many = (0, 1, 20_000, 39_999, 40_000, 80_000, 10**6, 10**9)
    assert [bits_of(keys, 0) for keys in many] == [0, 0, 0, 0, 1, 2, 5, 6]
    assert bits_of(10**6, 1 << 40) == 0, "it counts in another way"


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1"])
def test_servers_leave_no_key_out(server: StartServer, kind: str) -> None:
    client = server(kind).client()
    client.mset({f"k:{n}": n for n in range(5000)})
    found: list[bytes] = []
    for index in range(8):
        one, cursor = Range(3, index, ""), index
        while True:
            cursor, names = client.execute_command("SCAN", cursor, "COUNT", 50)
            found += names
            cursor = int(cursor)
            if not one.follows(cursor):
                break
    assert set(found) == {f"k:{n}".encode() for n in range(5000)}
    assert len(found) < 5000 + 8 * 70, "but for those that a step behind the end of a range has brought"
