"""Bytes that are neither commands nor replies: typed errors, the same in both forms, nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_tasks.errors import Malformed
from tests.unit.codec.forms import form
from tests.unit.codec.wire import FORMS, Error, answer, command, shown

TABLE = {b"SELECT": "db"}


@pytest.mark.parametrize(
    "data",
    [
        b"+a\rb\r\n", b":\r\n", b":-\r\n", b":1x\r\n", b":1\rx", b"$-1\rx", b"$-2\r\n", b"$03\r\nabc\r\n", b"$1\r\nabc",
        b"*-1\rx", b"*-7\r\n", b"*01\r\n:1\r\n", b"$1073741825\r\n", b"%1\r\n", b"\r\n", b"*1\r\n?",
        b"*1\r\n" * 40 + b":1\r\n",
    ],
)  # fmt: skip
def test_what_is_no_reply_is_a_typed_error(codec: Any, data: bytes) -> None:
    with pytest.raises(Malformed):
        codec.resp.parse(data, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"PING\r\n", b"*\r\n", b"*0\r\n", b"*-1\r\n", b"*2147483648\r\n", b"*99999999999999999999", b"*1\r\n+OK\r\n",
        b"*1\r\n$-1\r\n", b"*1\r\n$1\r\nab\r\n", b"*1\r\n$1073741825\r\n", b"*01\r\n$1\r\na\r\n", b"*1\r\n$01\r\na\r\n",
        b"*1\rx", b"\r\n",
    ],
)  # fmt: skip
def test_what_is_no_command_is_a_typed_error(codec: Any, data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        codec.resp.Scanner(TABLE).scan(b"\n" + data, 1, 10, 1000)
    assert 0 <= caught.value.offset <= len(data)


GOOD = (
    command([b"SELECT", b"1"]) + command([b"INCR", b"n"]) + answer([1, b"two", None, Error(b"ERR x"), [("+", b"OK")]])
)
damage = st.lists(
    st.tuples(st.integers(0, len(GOOD) - 1), st.one_of(st.sampled_from(list(b"*$:+-\r\n019")), st.integers(0, 255))),
    min_size=1,
    max_size=6,
)


def outcome(read: Any, *args: Any) -> Any:
    """What a reader answers, or its typed error; anything else it raises ends the test."""
    try:
        found = read(*args)
    except Malformed as error:
        return error.message, error.offset
    return tuple(shown(part) for part in found) if isinstance(found, tuple) else found


@settings(max_examples=300)
@given(damage, st.integers(0, len(GOOD)))
def test_damage_is_a_typed_error_and_the_same_in_both_forms(places: list[tuple[int, int]], stop: int) -> None:
    data = bytearray(GOOD)
    for at, byte in places:
        data[at] = byte
    hostile = bytes(data[: stop or None])
    found = []
    for name in FORMS:
        resp = form(name).resp
        scanner = resp.Scanner(TABLE)
        filtered = resp.Scanner({}, False, [b"INCR"], [b"SELECT"])
        filtered.filter(form(name).Filter([b"n", b"1"], [b"12"]))
        found.append(
            [
                outcome(scanner.scan, hostile, 0, 10, 1000),
                outcome(filtered.scan, hostile, 0, 10, 1000),
                *(outcome(resp.parse, hostile, at) for at in range(0, len(hostile), 5)),
                outcome(resp.replies, hostile, 0, 4),
                *(outcome(resp.transaction, hostile, at, 0, queued) for at in (0, 25) for queued in (0, 2, 5)),
            ]
        )
    assert found[0] == found[1]
