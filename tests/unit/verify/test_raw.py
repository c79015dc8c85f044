"""The judge's raw answers: parts told from each other whatever they hold, and taken apart exactly."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compare import SAME, Batch, Half
from tests.raw import Refused, Wire, arg, command, for_each, lines, replies
from tests.sides import Heads, Side, Unread, canonical

WORD = b"0123456789abcdef"


def encode(answer: Any) -> bytes:
    match answer:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % answer
        case Refused():
            return b"-" + answer + b"\r\n"
        case bytes():
            return arg(answer)
        case list():
            return b"*%d\r\n" % len(answer) + b"".join(map(encode, answer))
    raise AssertionError(answer)


LEAVES = st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=12) | st.just(Refused(b"ERR no such key"))
ANSWERS = st.lists(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=5), max_leaves=20), max_size=6)


@given(ANSWERS)
def test_answers_of_every_shape_come_out_as_they_went_in(answers: list[Any]) -> None:
    found = replies(b"".join(map(encode, answers)))
    assert found == answers
    assert [type(one) for one in found] == [type(one) for one in answers]


def test_states_and_absent_lists() -> None:
    assert replies(b"+OK\r\n*-1\r\n*2\r\n*-1\r\n+a\r\n") == [b"OK", None, [None, b"a"]]
    assert lines(b":1\r\n$-1\r\n+none\r\n") == [b":1", b"$-1", b"+none"]


def test_commands_are_packed() -> None:
    assert command(b"GET", b"a") == b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"
    range_of = b"*3\r\n$1\r\nR\r\n$1\r\n%b\r\n$1\r\n0\r\n*1\r\n$1\r\nT\r\n"
    packed = for_each([arg(b"a"), arg(b"b")], b"R", end=(b"0",), after=command(b"T"))
    assert packed == range_of % b"a" + range_of % b"b"
    assert for_each([], b"GET") == b""


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.integers(1, 50))
def test_parts_are_told_from_each_other_however_they_arrive(parts: list[bytes], size: int) -> None:
    wire = Wire.__new__(Wire)
    wire.marked = arg(WORD)
    wire.parts = len(parts)
    stream = b"".join(part + wire.marked for part in parts)

    class Socket:
        at = 0

        def recv(self, most: int) -> bytes:
            self.at += size
            return stream[self.at - size : self.at]

    wire.socket = Socket()  # type: ignore[assignment]
    assert wire.receive() == parts


def test_a_connection_that_ends_is_no_answer() -> None:
    ours, theirs = socket.socketpair()
    wire = Wire.__new__(Wire)
    wire.socket, wire.marked, wire.parts = ours, arg(WORD), 1
    theirs.sendall(b":1\r\n")
    theirs.close()
    with pytest.raises(AssertionError, match="closed the connection"):
        wire.receive()


def batch(type: bytes, *, timed: bool = False) -> Batch:
    """A batch of two keys of a type that nobody was asked about."""
    out = Batch.__new__(Batch)
    side = Side.__new__(Side)
    side.has_field_expiry = timed
    halves = []
    for _ in "ab":
        half = Half.__new__(Half)
        half.side, half.heads, half.values, half.fields = side, Heads([type] * 2, [(-1, -1)] * 2, [1, 1]), {}, {}
        halves.append(half)
    out.a, out.b = halves
    out.both = (out.a, out.b)
    out.timed, out.counters = timed, True
    return out


def test_what_is_the_same_byte_for_byte_is_not_taken_apart() -> None:
    here = batch(b"string")
    here._take(b"string", [0, 1], b"$1\r\na\r\n$1\r\nb\r\n", b"$1\r\na\r\n$1\r\nb\r\n")
    assert here.a.values == here.b.values == {0: SAME, 1: SAME}


def test_hashes_whose_fields_may_expire_are_taken_apart_even_so() -> None:
    here = batch(b"hash", timed=True)
    raw = b"*2\r\n$1\r\na\r\n$1\r\n1\r\n" * 2
    here._take(b"hash", [0, 1], raw, raw)
    assert here.a.values[0] is here.b.values[0]
    assert here.a.values[0] == {b"a": b"1"}
    assert here.a.timed([0, 1]) == [0, 1]


def test_what_both_refuse_is_not_the_same() -> None:
    """Both keys have changed their type since it was asked for: nobody has seen their values."""
    refused = b"$1\r\na\r\n-WRONGTYPE x\r\n"
    here = batch(b"string")
    here._take(b"string", [0, 1], refused, refused)
    assert here.a.values[0] == here.b.values[0] == b"a"
    assert canonical(b"string", Refused(b"WRONGTYPE x"), True) != Unread(b"WRONGTYPE x")
    assert here.a.values[1] is not here.b.values[1]


def test_it_shares_no_code_with_what_it_judges() -> None:
    program = """
import sys, tests.compare
shared = [name for name in sys.modules if name.split(".")[0] in ("workers", "sync_tasks", "scheduler")]
assert not shared, shared
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
