from __future__ import annotations

import io
import random
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_tasks.errors import Malformed, UnsupportedType
from tests.unit.codec.forms import form
from tests.unit.codec.keyspace import run
from tests.unit.codec.newer import MIN, NEWER
from tests.unit.codec.rdb import integer, length, lzf, raw
from tests.unit.codec.samples import MEANINGS, VALUES, listpack, timed_hash, ziplist, zipmap


def _reader(data: bytes, sizes: Callable[[], int] | None = None) -> Callable[[int], bytes]:
    """A source that returns fewer bytes than asked, as a file or pipe may."""
    stream = io.BytesIO(data)
    return lambda n: stream.read(min(n, sizes()) if sizes else n)


@pytest.mark.parametrize("kind", sorted(MEANINGS))
def test_every_type_is_rebuilt(codec: Any, kind: int) -> None:
    assert codec.can_piece(kind)
    assert run(codec.pieces(_reader(VALUES[kind]), kind)) == MEANINGS[kind]
    rng = random.Random(kind)
    small = codec.pieces(_reader(VALUES[kind], lambda: rng.randint(1, 9)), kind, 1024, 1)
    assert run(small) == MEANINGS[kind]


@pytest.mark.parametrize("kind", [22, 23, 24, 25])
def test_hashes_of_redis_whose_fields_expire(codec: Any, kind: int) -> None:
    found = list(codec.pieces(_reader(NEWER[kind], lambda: 7), kind, 1024, 2, 9, 12))
    times = {b"f": -1, b"g": MIN + 9, b"h": MIN + 14}
    values = {b"f": b"v", b"g": b"w", b"h": b"x" * 200}
    assert run(found) == {field: (values[field], time) for field, time in times.items()}
    assert len(found) == 4


@pytest.mark.parametrize("kind", [7, 15, 19, 21, 6, 8, 28, 245])
def test_streams_and_modules_are_not(codec: Any, kind: int) -> None:
    assert not codec.can_piece(kind)
    with pytest.raises(UnsupportedType, match=f"type {kind} "):
        next(codec.pieces(_reader(b""), kind))


@pytest.mark.parametrize("score", [-0.0, 5e-324, 1.7976931348623157e308, 1 / 3, 123456789012345678.0, 1e22, 3.0])
def test_scores_keep_every_bit(codec: Any, score: float) -> None:
    ((_, args),) = codec.pieces(_reader(length(1) + raw(b"m") + struct.pack("<d", score)), 5)
    assert struct.pack("<d", float(args[0])) == struct.pack("<d", score)
    text = b"%.17g" % score
    for kind, value in ((3, length(1) + raw(b"m") + raw(text)), (17, raw(listpack([b"m", text])))):
        ((_, args),) = codec.pieces(_reader(value), kind)
        assert struct.pack("<d", float(args[0])) == struct.pack("<d", score), kind


@pytest.mark.parametrize("text", [b"nan", b"", b"1_0", b"x", b"-nan"])
def test_a_score_that_is_no_number(codec: Any, text: bytes) -> None:
    values = {
        3: length(1) + raw(b"m") + raw(text),
        12: raw(ziplist([b"m", text])),
        17: raw(listpack([b"m", text])),
    }
    for kind, value in values.items():
        with pytest.raises(Malformed, match="not a number"):
            list(codec.pieces(_reader(value), kind))
    with pytest.raises(Malformed, match="not a number"):
        list(codec.pieces(_reader(length(1) + raw(b"m") + struct.pack("<d", float("nan"))), 5))
    with pytest.raises(Malformed, match="not a number"):
        list(codec.pieces(_reader(length(1) + raw(b"m") + b"\xfd"), 3))


@pytest.mark.parametrize("value", [raw(b""), integer(-5, 1), integer(1 << 20, 4), raw(b"short"), lzf(b"z" * 999)])
def test_small_strings(codec: Any, value: bytes) -> None:
    expected = {0: b"", 0xC0: b"-5", 0xC2: b"1048576", 5: b"short", 0xC3: b"z" * 999}[value[0]]
    found = list(codec.pieces(_reader(value), 0))
    assert found, "an empty string is a key too"
    assert run(found) == expected


def test_long_strings_come_in_bounded_pieces(codec: Any) -> None:
    text = random.Random(1).randbytes(5000) + b"abcd" * 5000
    for value in (raw(text), lzf(text)):
        found = list(codec.pieces(_reader(value), 0, 2000))
        assert run(found) == text
        assert {name for name, _ in found} == {b"APPEND"}
        assert max(len(args[0]) for _, args in found) <= 2000
        assert len(found) <= 2 * len(text) // 1500


def test_limits_of_a_command(codec: Any) -> None:
    words = [b"%04d" % i for i in range(2000)]
    value = length(2000) + b"".join(map(raw, words))
    for max_bytes, max_items, most in ((1 << 20, 512, 512), (1024, 10_000, 256), (1 << 20, 1, 1)):
        found = list(codec.pieces(_reader(value), 1, max_bytes, max_items))
        assert run(found) == words
        assert max(len(args) for _, args in found) == most
    big = length(3) + raw(b"a") + raw(b"b" * 5000) + raw(b"c")
    assert [len(args) for _, args in codec.pieces(_reader(big), 1, 1024)] == [1, 1, 1]


def test_pairs_are_never_parted(codec: Any) -> None:
    pairs = [(b"f%d" % i, b"v%d" % i * 20) for i in range(100)]
    value = length(100) + b"".join(raw(f) + raw(v) for f, v in pairs)
    found = list(codec.pieces(_reader(value), 4, 1024, 7))
    assert all(len(args) % 2 == 0 and len(args) <= 14 for _, args in found)
    assert run(found) == dict(pairs)


def test_field_times_follow_their_fields_and_are_held(codec: Any) -> None:
    fields = [(b"f%d" % i, b"v", [-1, 1000, 2000, (1 << 46) + 1][i % 4]) for i in range(40)]
    found = list(codec.pieces(_reader(timed_hash(fields)), 22, 1 << 20, 8, 1 << 45))
    held = {-1: -1, 1000: 1000 + (1 << 45), 2000: 2000 + (1 << 45), (1 << 46) + 1: (1 << 46) + 1}
    assert run(found) == {f: (v, held[t]) for f, v, t in fields}
    assert [name for name, _ in found] == [b"HSET", *[b"HPEXPIREAT"] * 3] * 5
    late = list(codec.pieces(_reader(timed_hash([(b"f", b"v", (1 << 46) - 5)])), 22, field_hold=99))
    assert late[1] == (b"HPEXPIREAT", [b"%d" % ((1 << 46) - 5), b"FIELDS", b"1", b"f"])


@pytest.mark.parametrize("kind", sorted(MEANINGS))
def test_a_value_cut_anywhere_or_followed_by_more_is_malformed(codec: Any, kind: int) -> None:
    value = VALUES[kind]
    for cut in range(len(value)):
        with pytest.raises(Malformed):
            list(codec.pieces(_reader(value[:cut]), kind))
    with pytest.raises(Malformed, match="follow"):
        list(codec.pieces(_reader(value + b"x"), kind))


def test_a_length_that_lies_takes_no_memory() -> None:
    codec = form("compiled")
    lies = [
        (0, length(1 << 50) + b"x"),
        (1, length(1) + length(1 << 50) + b"x"),
        (1, length(1 << 61) + raw(b"x")),
    ]
    lies += [
        (0, b"\xc3\x05" + length(1 << 50) + b"\x00abcd"),
        (2, length(1) + b"\xc3\x05" + length(1 << 50) + b"\x00abcd"),
    ]
    tracemalloc.start()
    for kind, value in lies:
        with pytest.raises(Malformed):
            list(codec.pieces(_reader(value), kind))
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_memory_is_a_piece_not_the_value() -> None:
    codec = form("compiled")
    count = 200_000
    block = b"".join(raw(b"field%07d" % i) + raw(b"v" * 50) for i in range(count // 10))
    data = io.BytesIO(length(count) + block * 10)
    tracemalloc.start()
    total = sum(len(args) for _, args in codec.pieces(data.read, 4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 2 * count
    assert peak < 4 << 20


@pytest.mark.parametrize("size", [126, 127, 128, 16382, 16383, 16384, 2097150, 2097151, 2097152])
def test_listpack_entries_at_the_borders_of_their_length(codec: Any, size: int) -> None:
    """Source: Redis src/listpack.c, lpEncodeBacklen: two bytes stop at 16382, three at 2097150."""
    head = 2 if size < 4000 else 5
    entries = [b"a", b"x" * (size - head), b"b"]
    assert list(codec.packed.listpack(listpack(entries), 0)) == entries


@pytest.mark.parametrize(
    ("name", "blob"),
    [
        ("zipmap", b"\x01\x01k\x01\x09v\xff"),
        ("zipmap", b"\x01\x01k\x03\x00v\xff"),
        ("zipmap", b"\x01\xfe\xff\xff\xff\xffk\xff"),
        ("zipmap", b"\x01\x01k\x01\x00v"),
        ("zipmap", b""),
        ("intset", b"\x03\0\0\0\x01\0\0\0abc"),
        ("intset", b"\x02\0\0\0\xff\xff\xff\xffab"),
        ("intset", b"\x02\0\0"),
        ("listpack", b"123456\x85ab\xff"),
        ("listpack", b"123456\xf0\xff\xff\xff\xff\xff"),
        ("listpack", b"123456\xf4abc\xff"),
        ("listpack", b"123456\xc0\xff"),
        ("listpack", b"123456\xe1\xff"),
        ("listpack", b"123456\xf7\x01\xff"),
        ("listpack", b"123456\x01\x01"),
        ("listpack", b"12345\xff"),
        ("ziplist", b"1234567890\0\x05ab\xff"),
        ("ziplist", b"1234567890\0\x80\xff\xff\xff\xffab\xff"),
        ("ziplist", b"1234567890\0\x80\xff\xff\xff"),
        ("ziplist", b"1234567890\0\xe0abc\xff"),
        ("ziplist", b"1234567890\0\xe1abc\xff"),
        ("ziplist", b"1234567890\xfe\xff"),
        ("ziplist", b"1234567890\0\xff"),
        ("ziplist", b"1234567890\0\x40\xff"),
        ("ziplist", b""),
    ],
)
def test_packed_entries_that_pass_their_end(codec: Any, name: str, blob: bytes) -> None:
    with pytest.raises(Malformed, match="before at byte 77"):
        list(getattr(codec.packed, name)(blob, 77))


texts = st.one_of(
    st.binary(max_size=80),
    st.integers(-(1 << 63), (1 << 63) - 1).map(lambda n: b"%d" % n),
    st.integers(-5000, 5000).map(lambda n: b"%d" % n),
    st.integers(60, 17000).map(lambda n: b"x" * n),
)


@settings(deadline=None, max_examples=80)
@given(st.lists(texts, max_size=20))
def test_packed_lists_of_anything(entries: list[bytes]) -> None:
    for codec in (form("compiled"), form("plain")):
        assert list(codec.packed.ziplist(ziplist(entries), 0)) == entries
        assert list(codec.packed.listpack(listpack(entries), 0)) == entries
        pairs = list(zip(entries[::2], entries[1::2], strict=False))
        assert list(codec.packed.zipmap(zipmap(pairs), 0)) == [text for pair in pairs for text in pair]


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_damaged_containers_are_typed_errors_and_the_same_in_both_forms(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([9, 10, 11, 12, 13, 14, 16, 17, 18, 3, 5, 22]))
    value = bytearray(VALUES[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    answers = []
    for codec in (form("compiled"), form("plain")):
        found: list[Any] = []
        try:
            found.extend(codec.pieces(_reader(bytes(value)), kind, 1024, 3))
        except Malformed as error:
            found.append((error.message, error.offset))
        answers.append(found)
    assert answers[0] == answers[1]
