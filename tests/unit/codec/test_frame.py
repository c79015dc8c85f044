from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_tasks.errors import Malformed, UnsupportedType
from tests.unit.codec.forms import form
from tests.unit.codec.rdb import Framed, crc64, entry, frame, integer, length, lzf, raw, rdb, records
from tests.unit.codec.samples import VALUES, all_types
from workers.codec.programs import COLLECTIONS

RDB = all_types()


def _frame(codec: Any, data: bytes, shards: int = 4, huge: int = 8 << 20, sizes: Any = ()) -> Framed:
    return frame(codec.Framer(shards, huge), shards, data, sizes)


def _random_sizes(seed: int, largest: int) -> Iterator[int]:
    rng = random.Random(seed)
    while True:
        yield rng.randint(1, largest)


def test_every_type_and_opcode_is_framed(codec: Any) -> None:
    framed = _frame(codec, RDB + b"what follows")
    assert [event for event in framed.events if event[0] != "end"] == [
        ("version", "VALKEY", 80),
        ("aux", b"valkey-ver", b"9.1.0"),
        ("aux", b"n", b"-3"),
        ("function", b"#!lua name=f"),
        ("function", b"#!lua name=" + b"g" * 90),
        ("db", 0),
        ("resize", 22, 0),
        ("db", 5),
        ("resize", 22, 22),
    ]
    assert framed.events[-1] == ("end", crc64(RDB[:-8]))
    assert framed.rest == b"what follows"
    entries = framed.entries()
    for kind, value in VALUES.items():
        assert entries.pop((0, b"k%d" % kind)) == (-1, bytes([kind]) + value)
        assert entries.pop((5, b"{t%d}" % kind)) == (1 << 41, bytes([kind]) + value)
    assert entries.pop((5, b"-1234")) == (1000 << 30, b"\x00" + raw(b"seconds"))
    assert entries.pop((5, b"a long key, not compressed " * 4)) == (-1, b"\x00" + raw(b"long"))
    assert entries.pop((5, b"key" * 40)) == (-1, b"\x00" + raw(b"packed key"))
    assert not entries
    assert framed.keys == 2 * len(VALUES) + 3


def test_keys_go_to_the_shard_of_their_slot(codec: Any) -> None:
    framed = _frame(codec, RDB, shards=7)
    for (_, shard), buf in framed.buffers.items():
        for _, key, _ in records(buf):
            assert codec.shard(key, 7) == shard
    assert len({shard for _, shard in framed.buffers}) > 3


@pytest.mark.parametrize("huge", [8 << 20, 128])
@pytest.mark.parametrize("seed", range(8))
def test_any_split_of_the_bytes_gives_the_same(codec: Any, seed: int, huge: int) -> None:
    whole = _frame(codec, RDB + b"tail", huge=huge)
    split = _frame(codec, RDB + b"tail", huge=huge, sizes=_random_sizes(seed, [1, 2, 9, 60][seed % 4]))
    assert split.told() == whole.told()
    assert split.buffers == whole.buffers
    assert whole.rest.startswith(split.rest)


def test_values_above_the_limit_pass_in_parts(codec: Any) -> None:
    framed = _frame(codec, RDB, huge=128)
    huge = [event for event in framed.events if event[0] == "huge"]
    assert len(huge) == 2 * sum(len(value) > 128 for value in VALUES.values())
    assert framed.entries() == _frame(codec, RDB).entries()
    _, key, expire, kind, shard = huge[0]
    assert (key, expire, kind, shard) == (b"k1", -1, 1, codec.shard(b"k1", 4))


@pytest.mark.parametrize("feed", [1 << 16, 3 << 20, 1 << 26])
def test_a_large_value_is_cut_into_parts_and_takes_no_memory(feed: int) -> None:
    codec = form("compiled")
    value = length(9) + raw(bytes(8 << 20)) * 9
    data = rdb(b"\xfe\x00", entry(b"big", 1, value, 12), entry(b"after", 0, raw(b"v")), checksum=lambda _: 0)
    framer, parts, peak = codec.Framer(2, 1 << 20), [0], 0
    tracemalloc.start()
    view = memoryview(data)
    for pos in range(0, len(data), feed):
        framer.feed(view[pos : pos + feed])
        while (event := framer.next()) is not None:
            if event[0] == "part":
                assert len(event[1]) <= 1 << 20
                parts.append(len(event[1]))
            if event[0] == "huge_end":
                assert event[1] == len(value) == sum(parts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (1 << 20) + 2 * min(feed, len(data)) + (2 << 20)
    assert framer.offset == len(data)
    assert framer.pending(0) + framer.pending(1) == 16 + 5 + 3
    if feed == 1 << 16:
        assert max(parts) < 1 << 19, "parts are not held back"
        assert sorted(parts)[2] >= 1 << 18, "parts are not tiny"


def test_full_is_reported_at_256_kb(codec: Any) -> None:
    data = rdb(b"\xfe\x00", *(entry(b"k%d" % i, 0, raw(bytes(1000))) for i in range(600)))
    framer, fulls = codec.Framer(1), 0
    framer.feed(data)
    while (event := framer.next()) is not None:
        if event[0] == "full":
            fulls += 1
            assert 256 << 10 < framer.pending(0) < 258 << 10
            buf, keys = framer.drain(0)
            assert keys == len(list(records(buf)))
            assert framer.pending(0) == 0
    assert fulls == 2


def test_it_tells_where_it_is(codec: Any) -> None:
    head, one, two = b"VALKEY080\xfe\x03", entry(b"first", 0, raw(b"v")), entry(b"second", 0, raw(b"w" * 50))
    framer = codec.Framer(1)
    framer.feed(head)
    assert framer.next() == ("version", "VALKEY", 80)
    assert framer.next() == ("db", 3)
    assert framer.db == 3
    assert framer.next() is None
    framer.feed(one + two[:20])
    assert framer.next() is None
    assert framer.last_key == b"second"
    assert framer.offset == len(head + one) + 20


def test_no_checksum_is_made_before_version_5_or_when_it_is_off(codec: Any) -> None:
    body = b"REDIS0004\xfe\x00" + entry(b"k", 0, raw(b"v")) + b"\xff"
    assert _frame(codec, body + b"rest").events[-1] == ("end", 0)
    assert _frame(codec, body + b"rest").rest == b"rest"
    data = rdb(entry(b"k", 0, raw(b"v")), checksum=lambda _: 0)
    assert _frame(codec, data).events[-1] == ("end", 0)


def test_a_flipped_bit_fails_the_checksum_before_the_end(codec: Any) -> None:
    data = bytearray(RDB)
    data[data.index(b"plain")] ^= 1
    with pytest.raises(Malformed, match="checksum"):
        _frame(codec, bytes(data))


@pytest.mark.parametrize("magic", [b"REDIS0001", b"REDIS0012", b"REDIS0015", b"VALKEY080", b"VALKEY081"])
def test_known_versions(codec: Any, magic: bytes) -> None:
    framed = _frame(codec, rdb(entry(b"k", 0, raw(b"v")), magic=magic))
    assert framed.events[0] == ("version", magic[:5].decode() if magic[0] == 82 else "VALKEY", int(magic[6:]))
    assert framed.keys == 1


@pytest.mark.parametrize("magic", [b"REDIS0000", b"REDIS0016", b"REDIS9999", b"VALKEY079", b"VALKEY082"])
def test_unknown_versions(codec: Any, magic: bytes) -> None:
    with pytest.raises(UnsupportedType, match="RDB version") as caught:
        _frame(codec, rdb(magic=magic))
    assert caught.value.hint


@pytest.mark.parametrize("magic", [b"REDIS00x1", b"VALKEY-80", b"HTTP/1.1 ", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00"])
def test_what_is_not_an_rdb(codec: Any, magic: bytes) -> None:
    with pytest.raises(Malformed, match="not an RDB") as caught:
        _frame(codec, magic)
    assert not isinstance(caught.value, UnsupportedType)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "magic", "named"),
    [
        (6, b"VALKEY080", "value type 6 "),
        (8, b"VALKEY080", "value type 8 "),
        (22, b"REDIS0011", "value type 22 "),
        (23, b"VALKEY081", "value type 23 "),
        (26, b"REDIS0012", "value type 26 "),
        (241, b"VALKEY080", "value type 241 "),
        (242, b"VALKEY081", "opcode 242 "),
        (243, b"REDIS0011", "opcode 243 "),
        (246, b"REDIS0010", "opcode 246 "),
    ],
)
def test_unknown_types_are_named_with_offset_and_key(codec: Any, kind: int, magic: bytes, named: str) -> None:
    before = magic + entry(b"the-key", 0, raw(b"v"))
    with pytest.raises(
        UnsupportedType, match=f"{named}.*not supported after key b'the-key' at byte {len(before)}"
    ) as caught:
        _frame(codec, before + bytes([kind]) + raw(b"next") + raw(b"value"))
    assert caught.value.offset == len(before)
    assert caught.value.code == "unsupported-type"


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"\x00" + raw(b"k") + b"\xc4", 3),
        (b"\x00" + raw(b"k") + b"\x82", 3),
        (b"\x00" + raw(b"k") + b"\x81" + b"\xff" * 8, 3),
        (b"\x00" + raw(b"k") + b"\xc3\x05\xc0", 5),
        (b"\x01" + raw(b"k") + b"\xc0", 3),
        (b"\x12" + raw(b"k") + b"\x01\x03", 4),
        (b"\x07" + raw(b"k") + b"\x01\x06", 4),
        (b"\xf7\x01\x05", 2),
        (b"\xfe" + length(1 << 32), 0),
        (b"\x00\xc3\x02" + length(1000) + b"\x00a", 1),
    ],
)
def test_malformed_bytes_are_told_with_their_offset(codec: Any, data: bytes, offset: int) -> None:
    with pytest.raises(Malformed) as caught:
        _frame(codec, b"VALKEY080" + data)
    assert caught.value.offset == 9 + offset


def test_after_an_error_it_refuses_everything(codec: Any) -> None:
    framer = codec.Framer(1)
    framer.feed(b"VALKEY080\x08")
    assert framer.next() == ("version", "VALKEY", 80)
    with pytest.raises(UnsupportedType):
        framer.next()
    with pytest.raises(Malformed, match="failed before"):
        framer.next()
    with pytest.raises(Malformed, match="failed before"):
        framer.feed(b"\xff")


@pytest.mark.parametrize("size", [1 << 40, 1 << 20])
def test_keys_and_aux_fields_of_untrusted_length_are_not_waited_for(codec: Any, size: int) -> None:
    for data in (b"\x00" + length(size), b"\xfa" + length(size), b"\x00\xc3\x05" + length(size)):
        with pytest.raises(Malformed, match=r"an aux field or function of over|a key of over"):
            _frame(codec, b"VALKEY080" + data + b"x" * 70000, huge=1 << 16)


def test_counts_of_untrusted_size_take_no_memory(codec: Any) -> None:
    data = b"VALKEY080\x01" + raw(b"k") + length((1 << 64) - 1) + raw(b"x") * 100
    assert _frame(codec, data).events == [("version", "VALKEY", 80)]


def test_a_stream_may_be_empty(codec: Any) -> None:
    assert _frame(codec, rdb(entry(b"stream", 21, length(0) * 10))).keys == 1


def test_integer_keys_become_text(codec: Any) -> None:
    parts = [bytes([0]) + integer(n, size) + raw(b"v") for n, size in ((-128, 1), (32767, 2), (-(1 << 31), 4))]
    keys = {key for _, key in _frame(codec, rdb(*parts)).entries()}
    assert keys == {b"-128", b"32767", b"-2147483648"}


@pytest.mark.parametrize("shards", [0, -1, 16385])
def test_shards_out_of_range(codec: Any, shards: int) -> None:
    with pytest.raises(ValueError, match="shards"):
        codec.Framer(shards)


keys = st.binary(max_size=40)
strings = st.one_of(
    st.binary(max_size=300).map(raw),
    st.integers(-128, 127).map(lambda n: integer(n, 1)),
    st.integers(-(1 << 31), (1 << 31) - 1).map(lambda n: integer(n, 4)),
    st.binary(min_size=1, max_size=5).map(lambda b: lzf(b * 40)),
)
values = st.one_of(
    strings.map(lambda v: (0, v)),
    st.lists(strings, max_size=8).map(lambda v: (1, length(len(v)) + b"".join(v))),
    st.lists(st.tuples(strings, strings), max_size=5).map(
        lambda v: (4, length(len(v)) + b"".join(a + b for a, b in v))
    ),
    st.sampled_from(sorted(VALUES.items())),
)


@settings(deadline=None, max_examples=60)
@given(
    entries=st.dictionaries(keys, st.tuples(values, st.none() | st.integers(0, 1 << 45)), max_size=12),
    cuts=st.lists(st.integers(1, 200), max_size=40),
    shards=st.integers(1, 16),
    huge=st.sampled_from([64, 300, 8 << 20]),
)
def test_what_goes_in_comes_out(entries: Any, cuts: list[int], shards: int, huge: int) -> None:
    data = rdb(b"\xfe\x09", *(entry(k, kind, value, t) for k, ((kind, value), t) in entries.items()))
    kept = {k: what for k, what in entries.items() if not (what[0][0] in COLLECTIONS and what[0][1] == b"\x00")}
    expected = {(9, k): (-1 if t is None else t, bytes([kind]) + value) for k, ((kind, value), t) in kept.items()}
    told = []
    for codec in (form("compiled"), form("plain")):
        framed = frame(codec.Framer(shards, huge), shards, data, cuts)
        assert framed.entries() == expected
        told.append((framed.events, framed.buffers))
    assert told[0] == told[1]


@pytest.mark.parametrize("huge", [300, 8 << 20])
def test_keys_that_are_not_in_scope_are_passed_over(codec: Any, huge: int) -> None:
    """Huge values are told: whoever takes them decides."""
    data = all_types()
    every = _frame(codec, data, huge=huge)
    for allow, block in ([], [b"s"]), ([b"l", b"z", b"h"], [b"list"]), ([], [b""]), ([b"none"], []):
        key_filter = codec.Filter(allow, block)
        framer = codec.Framer(4, huge)
        framer.filter(key_filter)
        some = frame(framer, 4, data, _random_sizes(7, 500))
        wanted = {at: value for at, value in every.entries().items() if key_filter.takes(at[1])}
        assert {at: value for at, value in some.entries().items() if key_filter.takes(at[1])} == wanted
        small = [key for buf in some.buffers.values() for _, key, _ in records(buf)]
        assert all(map(key_filter.takes, small))
        assert len(small) == some.keys
        assert some.told()[-1] == every.told()[-1], "the checksum is that of all"


@pytest.mark.parametrize(("size", "huge"), [(300, False), (301, True), (5000, True)])
def test_a_string_that_expands_beyond_the_limit_comes_in_parts(codec: Any, size: int, huge: bool) -> None:
    """However short it is, compressed: in one go it would keep the target busy."""
    value = lzf(b"a" * size)
    assert len(value) < 300
    for sizes in ([], [1] * 1000):
        framed = _frame(codec, rdb(entry(b"k", 0, value), entry(b"l", 0, raw(b"v"))), huge=300, sizes=iter(sizes))
        assert any(event[0] == "huge" for event in framed.events) is huge
        assert framed.entries() == {(0, b"k"): (-1, b"\x00" + value), (0, b"l"): (-1, b"\x00" + raw(b"v"))}


def test_keys_whose_time_is_over_are_left_out_where_nobody_will_tell(codec: Any) -> None:
    whole = _frame(codec, RDB).entries()
    for before in (0, 1000 << 30, (1000 << 30) + 1, (1 << 41) + 1):
        framer = codec.Framer(4, 8 << 20)
        framer.leave_out(before)
        left = {at: one for at, one in whole.items() if one[0] == -1 or one[0] >= before}
        assert frame(framer, 4, RDB, ()).entries() == left
        assert framer.over == len(whole) - len(left)
