"""RESP as servers write it, and values to write; independent of the codec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

Reply = Any
FORMS = ("compiled", "plain")

ARGUMENTS = st.one_of(
    st.binary(max_size=12), st.sampled_from([b"\r\n", b"$1\r\n", b"*1\r\n$4\r\nPING\r\n", b"x" * 300])
)
SIMPLE = st.binary(max_size=8).map(lambda text: text.replace(b"\r", b".").replace(b"\n", b"."))


class Error(bytes):
    """An error line."""


LEAVES = st.one_of(
    st.none(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.binary(max_size=20),
    SIMPLE.map(lambda t: ("+", t)),
    SIMPLE.map(Error),
)
REPLIES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


def command(argv: Sequence[bytes]) -> bytes:
    return b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in argv)


def answer(value: Reply) -> bytes:
    """A reply as a server writes it."""
    match value:
        case None:
            return b"$-1\r\n"
        case Error():
            return b"-" + value + b"\r\n"
        case ("+", text):
            return b"+" + bytes(text) + b"\r\n"
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
        case list():
            return b"*%d\r\n" % len(value) + b"".join(map(answer, value))
    return b":%d\r\n" % value


def meaning(value: Reply) -> Reply:
    """What a reader should make of it."""
    match value:
        case Error():
            return ("error", bytes(value))
        case ("+", text):
            return text
        case list():
            return [meaning(item) for item in value]
    return value


def shown(value: Reply) -> Reply:
    """What a reader made of it, without the class of its errors, of which each form has its own."""
    if isinstance(value, list):
        return [shown(item) for item in value]
    return ("error", value.line) if type(value).__name__ == "ReplyError" else value
