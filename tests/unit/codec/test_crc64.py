from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.codec import rdb
from tests.unit.codec.forms import form


def test_check_value(codec: Any) -> None:
    assert codec.crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    assert codec.crc64(b"") == 0


@settings(deadline=None)
@given(data=st.binary(max_size=100), cut=st.integers(0, 100))
def test_equals_the_definition_and_goes_on_from_any_byte(data: bytes, cut: int) -> None:
    expected = rdb.crc64(data)
    for codec in (form("compiled"), form("plain")):
        assert codec.crc64(data) == expected
        assert codec.crc64(data[cut:], codec.crc64(data[:cut])) == expected


def test_takes_every_kind_of_buffer(codec: Any) -> None:
    data = bytes(range(256)) * 3
    assert codec.crc64(bytearray(data)) == codec.crc64(memoryview(data)) == codec.crc64(data)
    assert codec.crc64(memoryview(data)[5:]) == codec.crc64(data[5:])
