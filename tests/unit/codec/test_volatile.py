"""Which keys of a chunk expire, in both forms."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_tasks.errors import Malformed
from tests.unit.codec.forms import form
from tests.unit.codec.rdb import record

TIMED = range(22, 26)  # types of hashes whose fields may expire, of both families
items = st.lists(
    st.tuples(
        st.binary(max_size=300),
        st.sampled_from([0, 1, 4, 21, *TIMED, 26]),
        st.binary(max_size=20),
        st.one_of(st.just(-1), st.integers(0, (1 << 63) - 1)),
    ),
    max_size=6,
)


@given(items, st.data())
def test_keys_with_an_expiry_and_hashes_whose_fields_have_one(
    chunk: list[tuple[bytes, int, bytes, int]], data: st.DataObject
) -> None:
    records = [record(*item) for item in chunk]
    whole = b"".join(records)
    expected = [key for key, kind, _, expire in chunk if expire >= 0 or kind in TIMED]
    place = data.draw(st.integers(0, len(whole)))
    begins = [sum(map(len, records[:i])) for i in range(len(records) + 1)]
    for name in ("compiled", "plain"):
        volatile = form(name).volatile
        assert volatile(whole) == expected
        if place in begins:
            assert volatile(whole[:place]) == expected[: len(volatile(whole[:place]))]
            continue
        with pytest.raises(Malformed) as caught:
            volatile(whole[:place])
        assert caught.value.offset == max(begin for begin in begins if begin < place)


@given(st.binary(max_size=120))
def test_noise_is_a_typed_error_or_harmless_and_the_same_in_both_forms(noise: bytes) -> None:
    found: list[Any] = []
    for name in ("compiled", "plain"):
        try:
            found.append(form(name).volatile(noise))
        except Malformed as error:
            found.append((error.message, error.offset))
    assert found[0] == found[1]


def test_a_length_that_lies(codec: Any) -> None:
    lie = record(b"k", 0, b"v")[:8] + b"\xff" * 8 + b"k\x00v"
    with pytest.raises(Malformed, match="inside a record"):
        codec.volatile(lie)


@given(items)
def test_values_are_cut_to_their_types(chunk: list[tuple[bytes, int, bytes, int]]) -> None:
    whole = b"".join(record(*item) for item in chunk)
    expected = b"".join(record(key, kind, b"", expire) for key, kind, _, expire in chunk)
    for name in ("compiled", "plain"):
        stripped = form(name).stripped
        assert stripped(whole) == expected
        for place in range(1, len(whole), 7):
            with contextlib.suppress(Malformed):
                assert expected.startswith(stripped(whole[:place]))
