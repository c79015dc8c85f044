from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_tasks.errors import Malformed
from tests.unit.codec.forms import form
from tests.unit.codec.rdb import compress

texts = st.lists(st.sampled_from([b"a", b"ab", b"abc" * 50, b"\x00" * 300, b"xyz", b"."]), max_size=60).map(b"".join)
EXAMPLE = compress(b"abcdefgh" * 500 + b"end")


@settings(deadline=None)
@given(text=texts, cuts=st.lists(st.integers(1, 40), max_size=30))
def test_round_trip_at_once_and_in_pieces(text: bytes, cuts: list[int]) -> None:
    packed = compress(text)
    for codec in (form("compiled"), form("plain")):
        assert codec.decompress(packed, len(text)) == text
        expander = codec.Expander(len(text), 600)
        out, pos = [], 0
        for size in [*cuts, len(packed)]:
            expander.feed(packed[pos : pos + size])
            pos += size
            while piece := expander.take():
                assert len(piece) <= 600 + 264
                out.append(piece)
        expander.close()
        assert b"".join(out) == text


@pytest.mark.parametrize("size", [0, 1, 4002, 4004, 1 << 60, -1])
def test_a_wrong_length_is_refused(codec: Any, size: int) -> None:
    with pytest.raises(Malformed):
        codec.decompress(EXAMPLE, size)


@pytest.mark.parametrize(
    "packed",
    [b"\x05ab", b"\x00a\x20", b"\x00a\x20\x01", b"\xe0", b"\xe0\x05", b"\x00a\xe0\xff\x01", b"\x20\x00"],
    ids=lambda p: p.hex(),
)
def test_cut_or_outside_copies_are_refused(codec: Any, packed: bytes) -> None:
    for size in (1, 4, 100):
        with pytest.raises(Malformed):
            codec.decompress(packed, size)
        with pytest.raises(Malformed):  # noqa: PT012
            expander = codec.Expander(size)
            expander.feed(packed)
            while expander.take():
                pass
            expander.close()


@pytest.mark.parametrize("size", [0, 4002, 4004, 1 << 40])
def test_an_expander_finds_a_wrong_length(codec: Any, size: int) -> None:
    expander = codec.Expander(size)
    with pytest.raises(Malformed, match="stated length"):  # noqa: PT012
        expander.feed(EXAMPLE)
        while expander.take():
            pass
        expander.close()


def test_an_expander_stops_at_the_stated_length(codec: Any) -> None:
    expander = codec.Expander(100, 1000)
    expander.feed(EXAMPLE)
    with pytest.raises(Malformed, match="longer than its stated length"):
        expander.take()


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 300))
def test_any_bytes_give_the_same_answer_in_both_forms(packed: bytes, size: int) -> None:
    answers = []
    for codec in (form("compiled"), form("plain")):
        try:
            answers.append(codec.decompress(packed, size))
        except Malformed as error:
            answers.append(error.message)
    assert answers[0] == answers[1]
