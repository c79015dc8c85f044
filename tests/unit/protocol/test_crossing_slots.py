"""Commands of several keys for a target that is a cluster: what is split by slots, and what is copied anew."""

from __future__ import annotations

import pytest

from sync_tasks.slots import slot
from workers.crossing import divide, taken_from

A, B, C = b"{a}1", b"{a}2", b"{b}"

CASES = [
    ([b"DEL", A, C, B], [[b"DEL", A, B], [b"DEL", C]]),
    ([b"UNLINK", A, B], [[b"UNLINK", A, B]]),
    ([b"MSET", A, b"1", C, b"2", B, b"3"], [[b"MSET", A, b"1", B, b"3"], [b"MSET", C, b"2"]]),
    ([b"MSETNX", A, b"1", B, b"3"], [[b"MSET", A, b"1", B, b"3"]]),
    ([b"SMOVE", A, C, b"m"], [[b"SREM", A, b"m"], [b"SADD", C, b"m"]]),
    ([b"SMOVE", A, B, b"m"], [[b"SMOVE", A, B, b"m"]]),
    ([b"RPOPLPUSH", A, B], [[b"RPOPLPUSH", A, B]]),
    ([b"RPOPLPUSH", A, C], None),
    ([b"SUNIONSTORE", A, B], [[b"SUNIONSTORE", A, B]]),
    ([b"SUNIONSTORE", A, B, C], None),
    ([b"ZUNIONSTORE", A, b"2", B, C], None),
    ([b"BITOP", b"AND", A, B], [[b"BITOP", b"AND", A, B]]),
    ([b"SORT", A, b"STORE", B], [[b"SORT", A, b"STORE", B]]),
    ([b"SORT", A, b"STORE", C], None),
    ([b"NEW", A, B], [[b"NEW", A, B]]),
    ([b"NEW", A, C], None),
]


@pytest.mark.parametrize(("argv", "made"), CASES, ids=[b" ".join(case[0]).decode() for case in CASES])
def test_commands(argv: list[bytes], made: list[list[bytes]] | None) -> None:
    assert divide(argv, lambda _: True, {b"NEW": (1, 2, 1)}, slot) == made


def test_keys_of_other_lanes_are_theirs() -> None:
    def takes(key: bytes) -> bool:
        return slot(key) == slot(A)

    assert divide([b"DEL", A, C, B], takes, {}, slot) == [[b"DEL", A, B]]
    assert divide([b"SMOVE", A, C, b"m"], takes, {}, slot) == [[b"SREM", A, b"m"]]
    assert divide([b"SMOVE", C, A, b"m"], takes, {}, slot) == [[b"SADD", A, b"m"]]
    assert divide([b"LMOVE", A, C, b"LEFT", b"RIGHT"], takes, {}, slot) == [[b"LPOP", A]]
    assert divide([b"LMOVE", C, A, b"LEFT", b"RIGHT"], takes, {}, slot) is None, "it is copied anew"
    assert divide([b"SUNIONSTORE", C, A], takes, {}, slot) == []


def test_what_an_element_leaves() -> None:
    assert taken_from([b"BLMOVE", A, C, b"LEFT", b"RIGHT", b"0"]) == [b"LPOP", A]
    assert taken_from([b"LMOVE", A, C, b"RIGHT", b"LEFT"]) == [b"RPOP", A]
    assert taken_from([b"RPOPLPUSH", A, C]) == [b"RPOP", A]
