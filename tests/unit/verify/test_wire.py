"""Answers are cut out right wherever the network cuts them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.verify.wire import Answers, NotRedis, Refusal, arg, each, head, pack

ANSWERS = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


def encode(answer: Any) -> bytes:
    if answer is None:
        return b"$-1\r\n"
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, bytes):
        return b"$%d\r\n%b\r\n" % (len(answer), answer)
    return b"*%d\r\n" % len(answer) + b"".join(map(encode, answer))


def reader(data: bytes, cuts: Iterator[int]) -> Answers:
    """Answers of `data` that arrives in pieces of the sizes given."""
    position = 0

    def receive(size: int) -> bytes:
        nonlocal position
        piece = data[position : position + min(size, next(cuts))]
        position += len(piece)
        return piece

    return Answers(receive)


def forever(size: int) -> Iterator[int]:
    while True:
        yield size


@given(st.lists(ANSWERS, min_size=1, max_size=8), st.integers(1, 50))
def test_any_answers_in_any_pieces(answers: list[Any], size: int) -> None:
    data = b"".join(map(encode, answers))
    assert reader(data, forever(size)).read(len(answers)) == answers


@given(st.lists(ANSWERS, min_size=2, max_size=8), st.integers(1, 50), st.data())
def test_answers_may_be_read_in_several_turns(answers: list[Any], size: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(answers)))
    stream = reader(b"".join(map(encode, answers)), forever(size))
    assert stream.read(cut) + stream.read(len(answers) - cut) == answers


def test_errors_are_values_and_are_remembered_for_one_turn() -> None:
    stream = reader(b"+OK\r\n-ERR no\r\n*2\r\n:1\r\n-WRONGTYPE x\r\n:7\r\n", forever(9))

    ok, refused, nested = stream.read(3)

    assert ok == b"OK"
    assert isinstance(refused, Refusal)
    assert isinstance(nested[1], Refusal)
    assert [refusal.line for refusal in stream.refused] == [b"ERR no", b"WRONGTYPE x"]
    assert stream.read(1) == [7]
    assert stream.refused == []


def test_a_nil_array() -> None:
    assert reader(b"*-1\r\n*0\r\n", forever(100)).read(2) == [None, []]


@pytest.mark.parametrize(
    "data", [b"<html>", b"HTTP/1.0 400 Bad\r\n", b"$x\r\n", b"*99999999999999\r\n", b"$99999999999\r\n"]
)
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(NotRedis):
        reader(data, forever(100)).read(1)


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(NotRedis):
        reader(b"*1\r\n" * 1000 + b":1\r\n", forever(100)).read(1)


@pytest.mark.parametrize("data", [b"", b"$5\r\nab", b":12", b"*2\r\n:1\r\n"])
def test_a_connection_that_ends_early(data: bytes) -> None:
    with pytest.raises(EOFError):
        reader(data, forever(100)).read(1)


def test_commands() -> None:
    assert pack(b"GET", b"a\r\n") == b"*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n"
    keys = [arg(b"a"), arg(b"bc")]
    assert each(head(2, b"GET"), keys) == pack(b"GET", b"a") + pack(b"GET", b"bc")
    assert each(head(3, b"X"), keys, arg(b"1")) == pack(b"X", b"a", b"1") + pack(b"X", b"bc", b"1")
    assert each(head(2, b"GET"), []) == b""
