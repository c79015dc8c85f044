from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from tests.unit.codec.forms import form


@pytest.mark.parametrize(
    ("key", "slot"),
    [(b"123456789", 0x31C3), (b"", 0), (b"foo", 12182), (b"{foo}bar", 12182), (b"a{foo}{bar}", 12182)],
)
def test_known_slots(codec: Any, key: bytes, slot: int) -> None:
    assert codec.slot(key) == slot


@pytest.mark.parametrize("key", [b"{}foo", b"foo{}{bar}", b"{foo", b"foo}", b"}{"])
def test_an_empty_or_open_tag_is_no_tag(codec: Any, key: bytes) -> None:
    assert codec.slot(key) == codec.slot(key.replace(b"{", b"{", 1)) == key_slot(key)
    assert codec.slot(key) != codec.slot(b"foo")


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"{", b"}", b"a", b"\xff", b"key"]), max_size=12).map(b"".join))
def test_both_forms_agree_with_another_implementation(key: bytes) -> None:
    for codec in (form("compiled"), form("plain")):
        assert codec.slot(key) == key_slot(key)
        assert codec.shard(key, 1) == 0
        assert codec.shard(key, 12) == key_slot(key) * 12 // 16384
        assert codec.shard(key, 16384) == key_slot(key)
