from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_tasks.errors import Malformed
from tests.unit.codec.forms import form
from tests.unit.codec.newer import NEWER
from tests.unit.codec.rdb import commands, crc64, integer, length, lzf, raw, record
from tests.unit.codec.samples import VALUES, timed_hash

KEY_HOLD = 1 << 60
FIELD_HOLD = 1 << 45


def _one(codec: Any, rec: bytes, **holds: int) -> list[bytes]:
    out, keys, pos = codec.RestoreEncoder(80 if "field_hold" in holds else 11, **holds).encode(rec, 0, 10, 1 << 20)
    (argv,) = commands(out)
    assert (keys, pos) == (1, len(rec))
    return argv


def _payload(kind: int, value: bytes, version: int = 11) -> bytes:
    body = bytes([kind]) + value + version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


@pytest.mark.parametrize("kind", sorted(set(VALUES) - {0}))
def test_containers_are_restored(codec: Any, kind: int) -> None:
    argv = _one(codec, record(b"key", kind, VALUES[kind], 1 << 41))
    assert argv == [
        b"RESTORE",
        b"key",
        b"%d" % (1 << 41),
        _payload(kind, VALUES[kind]),
        b"REPLACE",
        b"ABSTTL",
    ]
    assert _one(codec, record(b"key", kind, VALUES[kind]))[2] == b"0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (raw(b""), b""),
        (raw(b"v" * 63), b"v" * 63),
        (raw(b"v" * 64), b"v" * 64),
        (raw(b"v" * 20000), b"v" * 20000),
        (lzf(b"abc" * 100), b"abc" * 100),
        (lzf(b"abc" * 21_000), b"abc" * 21_000),
        (integer(0, 1), b"0"),
        (integer(-128, 1), b"-128"),
        (integer(32767, 2), b"32767"),
        (integer(-32768, 2), b"-32768"),
        (integer(-(1 << 31), 4), b"-2147483648"),
        (integer((1 << 31) - 1, 4), b"2147483647"),
    ],
)
def test_plain_strings_are_set(codec: Any, value: bytes, text: bytes) -> None:
    assert _one(codec, record(b"k\r\n", 0, value)) == [b"SET", b"k\r\n", text]
    assert _one(codec, record(b"", 0, value, 99)) == [b"SET", b"", text, b"PXAT", b"99"]


@pytest.mark.parametrize("value", [lzf(b"abc" * 22_000), raw(b"v" * (64 << 10)), b"\xc3\x05\x43\x00abcde"])
def test_long_and_strange_strings_are_restored(codec: Any, value: bytes) -> None:
    """What makes no sense is the target's to refuse."""
    assert _one(codec, record(b"k", 0, value))[3] == _payload(0, value)


@pytest.mark.parametrize("value", [b"\xc3\x05\x20\x03abcd", b"\xc3\x02\x0a\xe0\x05", b"\xc3\x01\x08\x00"])
def test_a_compressed_string_that_does_not_expand(codec: Any, value: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        _one(codec, record(b"k", 0, value))
    assert caught.value.offset == 17


@pytest.mark.parametrize(
    ("source", "hold", "written"),
    [
        (1 << 41, KEY_HOLD, (1 << 41) + KEY_HOLD),
        ((1 << 48) - 1, KEY_HOLD, (1 << 48) - 1 + KEY_HOLD),
        (1 << 48, KEY_HOLD, 1 << 48),
        ((1 << 63) - 1, KEY_HOLD, (1 << 63) - 1),
        ((1 << 63) - 1, 0, (1 << 63) - 1),
        (0, 0, 1),
        (-2, 0, 1),
        (-5, KEY_HOLD, KEY_HOLD - 5),
        (-(1 << 63), 0, 1),
    ],
)
def test_times_of_keys_are_held_unless_they_never_come(codec: Any, source: int, hold: int, written: int) -> None:
    for kind in (0, 1):
        argv = _one(codec, record(b"k", kind, VALUES[kind], source), key_hold=hold)
        assert argv[4 if kind == 0 else 2] == b"%d" % written
        assert _one(codec, record(b"k", kind, VALUES[kind]), key_hold=hold)[2] in (b"plain", b"0")


@pytest.mark.parametrize(
    ("source", "hold", "written"),
    [
        (-1, FIELD_HOLD, -1),
        (1 << 41, FIELD_HOLD, (1 << 41) + FIELD_HOLD),
        ((1 << 44) - 1, FIELD_HOLD, (1 << 44) - 1 + FIELD_HOLD),
        (1 << 44, FIELD_HOLD, 1 << 44),
        ((1 << 46) + 5, FIELD_HOLD, (1 << 46) + 5),
        (7, 0, 7),
    ],
)
def test_times_of_fields_are_held_unless_they_never_come(codec: Any, source: int, hold: int, written: int) -> None:
    def value(time: int) -> bytes:
        return timed_hash([(b"f", b"v" * 99, time), (b"g" * 70, b"", -1), (b"\xff" * 9, b"w", time)])

    argv = _one(codec, record(b"k", 22, value(source)), field_hold=hold)
    assert argv[3] == _payload(22, value(written), 80)


def test_fields_of_every_string_form_are_passed_over(codec: Any) -> None:
    def value(time: int) -> bytes:
        end = struct.pack("<q", time)
        return (
            length(2)
            + lzf(b"f" * 90)
            + integer(-3, 2)
            + end
            + integer(9, 4)
            + b"\x80"
            + raw(b"v")[:1].rjust(4, b"\0")
            + b"v"
            + end
        )

    argv = _one(codec, record(b"k", 22, value(1000)), field_hold=500)
    assert argv[3] == _payload(22, value(1500), 80)


def test_holds_can_be_changed(codec: Any) -> None:
    encoder = codec.RestoreEncoder(80, key_hold=5)
    assert encoder.encode(record(b"k", 0, raw(b"v"), 10), 0, 1, 100)[0].endswith(b"$2\r\n15\r\n")
    encoder.key_hold = 7
    assert encoder.key_hold == 7
    assert encoder.encode(record(b"k", 0, raw(b"v"), 10), 0, 1, 100)[0].endswith(b"$2\r\n17\r\n")


def test_it_stops_at_limits_and_goes_on_from_there(codec: Any) -> None:
    buf = b"".join(record(b"k%d" % i, 0, raw(b"v" * 100)) for i in range(50))
    encoder = codec.RestoreEncoder(11)
    whole, keys, pos = encoder.encode(buf, 0, 1000, 1 << 20)
    assert (keys, pos) == (50, len(buf))
    for max_keys, max_bytes in ((1, 1 << 20), (7, 1 << 20), (1000, 1), (1000, 1000)):
        out, total, pos, calls = b"", 0, 0, 0
        while pos < len(buf):
            some, keys, pos = encoder.encode(buf, pos, max_keys, max_bytes)
            assert 0 < keys <= max_keys
            assert len(some) < max_bytes + 300
            out, total, calls = out + some, total + keys, calls + 1
        assert (out, total) == (whole, 50)
        assert calls == (50 if max_keys == 1 or max_bytes == 1 else 8 if max_keys == 7 else calls)
    assert encoder.encode(buf, len(buf), 10, 10) == (b"", 0, len(buf))
    assert encoder.encode(b"", 0, 10, 10) == (b"", 0, 0)


def test_an_unfinished_record_waits(codec: Any) -> None:
    one, two = record(b"one", 0, raw(b"1")), record(b"two", 1, VALUES[1])
    for cut in range(len(two)):
        _, keys, pos = codec.RestoreEncoder(11).encode(one + two[:cut], 0, 10, 1 << 20)
        assert (keys, pos) == (1, len(one))
        assert list(codec.RestoreEncoder(11).iter_keys(one + two[:cut])) == [(b"one", -1)]


def test_keys_for_sweeps(codec: Any) -> None:
    huge = struct.pack("<qII", 5, 3, 0xFFFFFFFF) + b"big" + b"\x01part of a value"
    buf = record(b"a", 0, raw(b"1"), 9) + record(b"", 1, VALUES[1]) + huge
    encoder = codec.RestoreEncoder(11)
    assert list(encoder.iter_keys(buf)) == [(b"a", 9), (b"", -1), (b"big", 5)]
    assert list(encoder.iter_keys(memoryview(buf), len(record(b"a", 0, raw(b"1"))))) == [
        (b"", -1),
        (b"big", 5),
    ]
    assert list(encoder.iter_keys(b"")) == []


def test_a_huge_record_is_left_to_pieces(codec: Any) -> None:
    huge = struct.pack("<qII", -1, 3, 0xFFFFFFFF) + b"big\x00rest"
    one = record(b"one", 0, raw(b"1"))
    encoder = codec.RestoreEncoder(11)
    assert encoder.encode(one + huge, 0, 10, 1 << 20)[1:] == (1, len(one))
    with pytest.raises(Malformed, match="huge"):
        encoder.encode(one + huge, len(one), 10, 1 << 20)


@pytest.mark.parametrize(
    "rec",
    [
        record(b"k", 0, raw(b"v") + b"x"),
        record(b"k", 0, length(50) + b"v"),
        record(b"k", 0, b"\x85"),
        record(b"k", 0, b"\xc2\x00\x00"),
        record(b"k", 22, timed_hash([(b"f", b"v", 5)]) + b"x"),
        record(b"k", 22, timed_hash([(b"f", b"v", 5)])[:-1]),
        record(b"k", 22, length(1 << 50) + raw(b"f")),
        record(b"k", 22, length(1) + b"\xc3\x05"),
        record(b"k", 22, b""),
        struct.pack("<qII", -1, 1, 0) + b"k",
    ],
    ids=lambda r: r[16:40].hex(),
)
def test_malformed_values(codec: Any, rec: bytes) -> None:
    good = record(b"good", 0, raw(b"v"))
    with pytest.raises(Malformed) as caught:
        codec.RestoreEncoder(80, field_hold=9).encode(good + rec, 0, 10, 1 << 20)
    assert caught.value.offset in (len(good), len(good) + 17)


def test_a_negative_position_is_a_mistake(codec: Any) -> None:
    with pytest.raises(ValueError, match="pos"):
        codec.RestoreEncoder(11).encode(b"abc", -1, 1, 1)


@settings(deadline=None, max_examples=60)
@given(
    items=st.lists(
        st.tuples(
            st.binary(max_size=30),
            st.sampled_from([0, 1, 4, 5, 22]),
            st.integers(-(1 << 63), (1 << 63) - 1),
            st.binary(max_size=500),
        ),
        max_size=8,
    ),
    key_hold=st.sampled_from([0, 600_000, KEY_HOLD, 1 << 62]),
    max_bytes=st.integers(1, 2000),
)
def test_both_forms_agree(items: Any, key_hold: int, max_bytes: int) -> None:
    def value(kind: int, text: bytes) -> bytes:
        return VALUES[kind] if kind else lzf(text * 3) if len(text) > 60 else raw(text)

    buf = b"".join(record(key, kind, value(kind, text), time) for key, kind, time, text in items)
    outs = []
    for codec in (form("compiled"), form("plain")):
        encoder, pos, out = codec.RestoreEncoder(80, key_hold, FIELD_HOLD), 0, b""
        while pos < len(buf):
            some, _, pos = encoder.encode(buf, pos, 3, max_bytes)
            out += some
        outs.append(out)
    assert outs[0] == outs[1]
    assert [argv[1] for argv in commands(outs[0])] == [key for key, _, _, _ in items]


@pytest.mark.parametrize("kind", [23, 24, 25])
def test_fields_of_redis_that_expire_are_restored_as_they_stand(codec: Any, kind: int) -> None:
    """Whoever holds them has done so before."""
    buf = record(b"before", 0, raw(b"v")) + record(b"the-key", kind, NEWER[kind])
    argvs = list(commands(codec.RestoreEncoder(12, KEY_HOLD).encode(buf, 0, 10, 1 << 20)[0]))
    assert argvs[1][3] == _payload(kind, NEWER[kind], 12)


@pytest.mark.parametrize("kind", [26, 27, 28])
def test_newer_types_are_restored(codec: Any, kind: int) -> None:
    out, _, _ = codec.RestoreEncoder(15, KEY_HOLD, FIELD_HOLD).encode(record(b"k", kind, NEWER[kind]), 0, 1, 1)
    (argv,) = commands(out)
    assert argv[3] == _payload(kind, NEWER[kind], 15)


def test_what_is_longer_than_may_be_ends_a_batch_and_begins_none(codec: Any) -> None:
    """A string may be as long as it is."""
    short, text, long = record(b"a", 4, b"\x01\x01f\x01v"), record(b"b", 0, raw(b"x" * 200)), record(b"c", 4, b"v" * 50)
    encoder = codec.RestoreEncoder(11, longest=50)
    assert encoder.encode(short + text + long + short, 0, 10, 1 << 20)[1:] == (2, len(short + text))
    assert encoder.encode(long + short, 0, 10, 1 << 20) == (b"", 0, 0)
    assert codec.RestoreEncoder(11).encode(long + short, 0, 10, 1 << 20)[1:] == (2, len(long + short))
