"""What Redis writes since 7.4: hashes with field expiry, streams 4 and 5, arrays, hash templates, key metadata."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import pytest

from sync_tasks.errors import Malformed, UnsupportedType
from tests.unit.codec.forms import form
from tests.unit.codec.newer import (
    HELD,
    LARGE,
    MANY,
    NAMES,
    NEWER,
    SINCE,
    array,
    meta,
    of_array,
    of_listpack,
    plain_hash,
    redis_types,
    template,
)
from tests.unit.codec.rdb import Framed, entry, frame, integer, length, lzf, raw, rdb
from tests.unit.codec.samples import VALUES, listpack

RDB = redis_types()
OFF = RDB[:-8] + bytes(8)
"""Without a checksum, so that damage is not found only there."""
TEMPLATE = template(3, [b"a", b"b"])


def _frame(codec: Any, data: bytes, huge: int = 8 << 20, sizes: Any = ()) -> Framed:
    return frame(codec.Framer(4, huge), 4, data, sizes)


def _refused(codec: Any, *parts: bytes, huge: int = 8 << 20) -> Malformed:
    with pytest.raises(Malformed) as caught:
        _frame(codec, b"REDIS0015" + b"".join(parts) + b"\xff" * 9, huge)
    return caught.value


def test_every_type_is_framed(codec: Any) -> None:
    framed = _frame(codec, RDB + b"tail")
    entries = framed.entries()
    assert framed.events[0] == ("version", "REDIS", 15)
    assert framed.rest == b"tail"
    for kind, value in ({kind: value for kind, value in VALUES.items() if kind < 22} | NEWER).items():
        assert entries.pop((0, b"k%d" % kind)) == (-1, bytes([kind]) + value)
        before = b"\xf3" + meta(kind % 3) if kind not in range(22, 26) else b""
        assert entries.pop((5, b"{m%d}" % kind)) == (1 << 41, before + bytes([kind]) + value)
    assert entries.pop((0, b"k28b")) == (-1, b"\x1c" + array(length(0)))
    assert entries.pop((0, b"lp")) == (-1, b"\x04" + plain_hash(NAMES, HELD))
    assert entries.pop((0, b"array")) == (1 << 41, b"\x04" + plain_hash(NAMES, HELD))
    assert entries.pop((0, b"lzf")) == (-1, b"\x04" + plain_hash([b"only"], [b"z" * 500]))
    assert entries.pop((0, b"one")) == (-1, b"\x04\x01" + raw(b"only") + integer(-3, 1))
    assert entries.pop((5, b"{m30}")) == (-1, b"\xf3" + meta(2) + b"\x04" + plain_hash([b"only"], [b"text"]))
    assert entries.pop((0, b"large")) == (1 << 41, b"\x04" + plain_hash(MANY, LARGE))
    assert entries.pop((5, b"{m32}")) == (-1, b"\xf3" + meta(2) + b"\x04" + plain_hash(MANY, LARGE))
    assert not entries


@pytest.mark.parametrize("largest", [1, 2, 9, 60])
@pytest.mark.parametrize("huge", [8 << 20, 640])
def test_any_split_of_the_bytes_gives_the_same(codec: Any, largest: int, huge: int) -> None:
    whole = _frame(codec, RDB, huge)
    rng = random.Random(largest)
    split = _frame(codec, RDB, huge, (rng.randint(1, largest) for _ in range(1 << 30)))
    assert split.told() == whole.told()
    assert split.buffers == whole.buffers


def test_metadata_go_before_a_value_that_passes_in_parts(codec: Any) -> None:
    """Hashes of templates in listpacks fit into 640 bytes; the large streams do not."""
    framed = _frame(codec, RDB, 640)
    assert any(event[0] == "huge" and event[3] == 243 for event in framed.events)
    assert framed.entries() == _frame(codec, RDB).entries()


def test_truncated_anywhere_it_waits(codec: Any) -> None:
    for cut in range(0, len(RDB), 1 if codec is form("compiled") else 23):
        framed = _frame(codec, RDB[:cut])
        assert not framed.events or framed.events[-1][0] != "end"


def _outcome(codec: Any, data: bytes, huge: int) -> Any:
    try:
        framed = _frame(codec, data, huge)
    except Malformed as error:
        return error.message, error.offset, type(error).__name__
    return framed.told(), framed.buffers


@pytest.mark.parametrize("seed", range(3))
def test_damage_is_a_typed_error_or_harmless_and_the_same_in_both_forms(seed: int) -> None:
    rng = random.Random(seed)
    refused = 0
    for round_ in range(1200):
        data = bytearray(OFF)
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(9, len(data))] = rng.choice([0, 255, 0x80, 0x81, 0xC3, 242, 243, rng.randrange(256)])
        if rng.random() < 0.3:
            start = rng.randrange(9, len(data))
            del data[start : start + rng.randrange(1, 50)]
        huge = rng.choice([640, 8 << 20])
        found = _outcome(form("compiled"), bytes(data), huge)
        refused += isinstance(found[0], str)
        if round_ % 20 == 0:
            assert found == _outcome(form("plain"), bytes(data), huge)
    assert refused > 300


@pytest.mark.parametrize("kind", sorted(SINCE))
def test_a_type_is_unknown_before_the_version_that_brought_it(codec: Any, kind: int) -> None:
    before = b"REDIS%04d" % (SINCE[kind] - 1) + entry(b"the-key", 0, raw(b"v"))
    what = f"{'value type' if kind < 242 else 'opcode'} {kind} .*after key b'the-key' at byte {len(before)}"
    with pytest.raises(UnsupportedType, match=what) as caught:
        _frame(codec, before + bytes([kind]) + bytes(20))
    assert 'reader = "scan"' in caught.value.hint


@pytest.mark.parametrize("kind", [23, 24, 25, 26, 27, 28, 30, 32, 242])
def test_what_redis_alone_has_is_unknown_in_a_snapshot_of_valkey(codec: Any, kind: int) -> None:
    with pytest.raises(UnsupportedType, match=f" {kind} "):
        _frame(codec, b"VALKEY081" + bytes([kind]) + bytes(20))


def test_types_and_opcodes_of_one_number_are_told_apart_by_the_header(codec: Any) -> None:
    theirs = entry(b"k", 22, VALUES[22])
    assert _frame(codec, rdb(theirs)).entries() == {(0, b"k"): (-1, b"\x16" + VALUES[22])}
    ours = entry(b"k", 22, NEWER[22])
    assert _frame(codec, rdb(ours, magic=b"REDIS0012")).entries() == {(0, b"k"): (-1, b"\x16" + NEWER[22])}
    slots = b"\xf3" + raw(b"job") + length(1) + length(5) + length(9)
    assert _frame(codec, rdb(slots, entry(b"k", 0, raw(b"v")))).keys == 1


@pytest.mark.parametrize(
    ("kind", "named"),
    [(29, "as DUMP writes it"), (31, "as DUMP writes it"), (33, "GCRA"), (34, "HyperLogLog"), (35, "not known")],
)
def test_what_no_release_writes_is_named(codec: Any, kind: int, named: str) -> None:
    error = _refused(codec, bytes([kind]) + raw(b"k") + bytes(9))
    assert isinstance(error, UnsupportedType)
    assert named in error.message


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([template(3, [])], "has no fields"),
        ([TEMPLATE, TEMPLATE], "is there twice"),
        ([TEMPLATE, entry(b"k", 32, of_array(4, [b"x", b"y"]))], "template 4, which is not there"),
        ([entry(b"k", 32, of_array(3, [b"x", b"y"]))], "template 3, which is not there"),
        ([TEMPLATE, entry(b"k", 30, of_listpack(4, [b"x", b"y"]))], "does not fit its template"),
        ([TEMPLATE, entry(b"k", 30, of_listpack(3, [b"x"]))], "does not fit its template"),
        ([TEMPLATE, entry(b"k", 30, of_listpack(3, [b"x", b"y", b"z"]))], "does not fit its template"),
        ([TEMPLATE, entry(b"k", 30, raw(listpack([b"three", b"x", b"y"])))], "does not fit its template"),
        ([TEMPLATE, entry(b"k", 30, raw(listpack([])))], "does not fit its template"),
        ([TEMPLATE, entry(b"k", 30, raw(b""))], "does not fit its template"),
        ([TEMPLATE, entry(b"k", 30, integer(3, 4))], "has no end|does not fit"),
        ([TEMPLATE, entry(b"k", 30, raw(listpack([b"3", b"x", b"y"])[:-2] + b"\xff"))], "listpack"),
        ([TEMPLATE, entry(b"k", 30, b"\xc3\x03\x40\x64\x00ab")], "compressed string"),
        ([entry(b"k", 28, length(0) + length(0))], "an array is empty"),
        ([entry(b"k", 28, length(1) + length(2))], "an array begins wrongly"),
        ([entry(b"k", 28, length(1) + length(0) + length(0) + length(4))], "element of an array"),
        ([b"\xf3" + length(1) + b"ABCD" + length(6)], "unknown opcode"),
        ([b"\xf3" + meta(1), b"\xfe\x00"], "metadata are of no key"),
        ([b"\xf3" + meta(1), b"\xf3" + meta(1), entry(b"k", 0, raw(b"v"))], "metadata are of no key"),
        ([b"\xf3" + length(0)], "metadata are of no key"),
    ],
)
def test_malformed_values(codec: Any, parts: list[bytes], message: str) -> None:
    error = _refused(codec, *parts)
    assert not isinstance(error, UnsupportedType)
    assert any(part in error.message for part in message.split("|"))
    assert error.offset >= 9


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([template(3, [b"f" * 500])], "a hash template of over 400 bytes"),
        ([b"\xf3" + meta(9), entry(b"k", 0, raw(b"v"))], "metadata of a key of over 400 bytes"),
        (
            [TEMPLATE, entry(b"k", 30, of_listpack(3, [b"x" * 500, b"y"]))],
            "a hash of a template in a listpack of over 400 bytes is not supported in key b'k'",
        ),
        (
            [TEMPLATE, entry(b"k", 30, lzf(listpack([b"3", b"x" * 500, b"y"])))],
            "a hash of a template in a listpack of over 400 bytes is not supported in key b'k'",
        ),
        ([b"\xf3" + meta(1), entry(b"k", 24, NEWER[24])], "metadata of a hash whose fields expire"),
    ],
)
def test_what_is_not_carried_yet_is_named(codec: Any, parts: list[bytes], message: str) -> None:
    error = _refused(codec, *parts, huge=400)
    assert isinstance(error, UnsupportedType)
    assert message in error.message
    assert 'reader = "scan"' in error.hint


def test_templates_take_bounded_memory(codec: Any) -> None:
    many = [template(number, [b"%d" % number + b"f" * 3_000_000]) for number in range(30)]
    error = _refused(codec, *many)
    assert isinstance(error, UnsupportedType)
    assert "more than 64 MB of hash templates" in error.message


def test_counts_of_untrusted_size_take_no_memory(codec: Any) -> None:
    head = b"REDIS0015" + b"\x1c" + raw(b"k") + length((1 << 64) - 1) + length(0)
    assert _frame(codec, head + length(5) + length(1) + bytes(8)).events == [("version", "REDIS", 15)]
    head = b"REDIS0015\xf2" + length(1) + length(1 << 60)
    assert _frame(codec, head + raw(b"f")).events == [("version", "REDIS", 15)]


@pytest.mark.parametrize("feed", [1 << 16, 3 << 20])
def test_a_large_hash_of_a_template_is_cut_into_parts_and_takes_no_memory(feed: int) -> None:
    codec = form("compiled")
    fields, values = [b"a", b"b" * 3_000_000, b"c", b"d"], [bytes(6 << 20), b"", b"small", bytes(2 << 20)]
    value = plain_hash(fields, values)
    whole = rdb(template(1, fields), entry(b"big", 32, of_array(1, values)), magic=b"REDIS0015", checksum=lambda _: 0)
    framer, joined, total = codec.Framer(2, 4 << 20), [], 0
    view = memoryview(whole)
    tracemalloc.start()
    for pos in range(0, len(whole), feed):
        framer.feed(view[pos : pos + feed])
        while (event := framer.next()) is not None:
            if event[0] == "part":
                assert len(event[1]) <= 1 << 20
                assert value[total : total + len(event[1])] == event[1]
                total += len(event[1])
            elif event[0] == "huge_end":
                joined.append(event[1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert joined == [total] == [len(value)]
    assert peak < 4 * (4 << 20) + 4 * feed + (3 << 20)


def test_a_hash_of_a_template_that_is_cut_short_in_parts_waits(codec: Any) -> None:
    data = b"REDIS0015" + template(9, MANY) + entry(b"k", 32, of_array(9, LARGE))
    for cut in range(data.index(b"k\x09"), len(data), 7):
        assert _frame(codec, data[:cut], 700).events[-1][0] != "huge_end"
