"""A replication stream, cut into commands: the same ones wherever it is cut on its way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.codec.forms import form
from tests.unit.codec.rdb import commands
from tests.unit.codec.wire import ARGUMENTS, FORMS, command

TABLE = {b"SELECT": "db", b"SET": "timed", b"MULTI": "begin"}
NAMES = (b"SELECT", b"select", b"Set", b"MULTI", b"INCR", b"SETEX", b"SUNION", b"x", b"", b"s" * 40)
LINES = st.lists(st.tuples(st.sampled_from(NAMES), st.lists(ARGUMENTS, max_size=4)), max_size=8)


def scanned(resp: Any, parts: Sequence[bytes], most: int = 1 << 20) -> Iterator[tuple[Any, list[bytes]]]:
    """(kind, arguments) of each command of a stream that arrives in parts; the kind of a plain one is None."""
    scanner, data, pos = resp.Scanner(TABLE), b"", 0
    for part in parts:
        data, pos = data[pos:] + part, 0
        while True:
            end, count, why, argv, after, kind = scanner.scan(data, pos, most, 1 << 20)
            run = list(commands(data[pos:end]))
            assert len(run) == count
            yield from ((None, plain) for plain in run)
            pos = end if why != resp.SPECIAL else after
            if why == resp.SPECIAL:
                yield kind, argv
            elif why == resp.MORE:
                break


def kind(argv: Sequence[bytes]) -> str | None:
    """By the table; a SET of three arguments is plain."""
    name = argv[0].upper()
    return None if name == b"SET" and len(argv) == 3 else TABLE.get(name)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(borders)]


@settings(max_examples=150)
@given(LINES, st.lists(st.integers(0, 5000), max_size=6), st.integers(1, 3))
def test_a_stream_means_the_same_wherever_it_is_cut(
    stream: list[tuple[bytes, list[bytes]]], places: list[int], most: int
) -> None:
    argvs = [[name, *rest] for name, rest in stream]
    data = b"".join(map(command, argvs))
    expected = [(kind(argv), argv) for argv in argvs]
    for name in FORMS:
        resp = form(name).resp
        assert list(scanned(resp, cut(data, places))) == expected
        assert list(scanned(resp, [data], most)) == expected


def test_a_stream_cut_at_every_byte(codec: Any) -> None:
    data = command([b"SELECT", b"3"]) + b"\n" + command([b"INCR", b"n"]) + command([b"SET", b"a", b"1", b"KEEPTTL"])
    whole = list(scanned(codec.resp, [data]))
    assert [kind for kind, _ in whole] == ["db", None, None, "timed"]
    assert whole[1] == (None, []), "a newline is an empty command"
    for place in range(len(data) + 1):
        assert list(scanned(codec.resp, [data[:place], data[place:]])) == whole
    assert list(scanned(codec.resp, [data[i : i + 1] for i in range(len(data))])) == whole
