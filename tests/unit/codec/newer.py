"""Serialized values of the types that Redis alone has since it parted from Valkey, and what stands around them."""

from __future__ import annotations

import struct

from tests.unit.codec.rdb import entry, integer, length, lzf, raw, rdb
from tests.unit.codec.samples import VALUES, listpack, module, stream

MIN = 1 << 41  # ms: the first expiry among the fields of a hash
PAST = 1 << 40  # ms: when entries of a stream were delivered
_FIELDS = [(b"f", b"v", 0), (b"g", b"w", MIN), (b"h", b"x" * 200, MIN + 5)]
_FLAT = [text for field, value, time in _FIELDS for text in (field, value, b"%d" % time)]


def array(insert: bytes) -> bytes:
    """An array of an integer, a float, a string and a short string; `insert` is where the next one goes."""
    elements = [
        length(0) + length(1) + struct.pack("<q", -5),
        length(1) + length(2) + struct.pack("<d", -0.5),
        length(7) + length(0) + lzf(b"text" * 30),
        length(1 << 40) + length(3) + raw(b"short"),
        length((1 << 64) - 2) + length(0) + integer(-300, 2),
    ]
    return length(len(elements)) + insert + b"".join(elements)


NEWER: dict[int, bytes] = {
    22: length(3) + b"".join(length(t) + raw(f) + raw(v) for f, v, t in _FIELDS),
    23: lzf(listpack(_FLAT)),
    24: struct.pack("<q", MIN)
    + length(3)
    + b"".join(length(t - MIN + 1 if t else 0) + raw(f) + raw(v) for f, v, t in _FIELDS),
    25: struct.pack("<q", MIN) + raw(listpack(_FLAT)),
    26: stream(4),
    27: stream(5),
    28: array(length(1) + length(1 << 50)),
}
"""RDB type to a value, without the type byte; those whose payload is what stands in the snapshot."""


def later_stream(kind: int, entries: int, value: bytes) -> bytes:
    """A stream of type 26 or 27 with entries 1-0, 2-0, ... in nodes of 50, and a group that has read 40 of them.

    `alice` has ten of these pending, `bob` none; of 27, ten belong to nobody. Two producers.
    """
    nodes = []
    for first in range(1, entries + 1, 50):
        some = range(first, min(first + 50, entries + 1))
        flat = [b"%d" % len(some), b"0", b"1", b"field", b"0"]
        for i in some:
            flat += [b"2", b"%d" % (i - first), b"0", value, b"4"]
        nodes.append(raw(_id(first)) + raw(listpack(flat)))
    last, nothing = length(entries) + length(0), length(0) * 2
    out = length(len(nodes)) + b"".join(nodes) + length(entries) + last + length(1) + length(0) + nothing
    out += length(entries) + length(1) + raw(b"group") + length(40) + length(0) + length(40)
    pending = range(1, 21) if kind >= 27 else range(1, 11)
    out += length(len(pending)) + b"".join(_id(i) + struct.pack("<q", PAST + i) + length(i) for i in pending)
    times = struct.pack("<qq", PAST, PAST)
    out += length(2) + raw(b"alice") + times + length(10) + b"".join(map(_id, range(1, 11)))
    out += raw(b"bob") + times + length(0)
    if kind >= 27:
        out += length(10) + b"".join(map(_id, range(11, 21)))
    return out + stream(4)[len(stream(3)) :]


def _id(number: int) -> bytes:
    return struct.pack(">QQ", number, 0)


SINCE = {22: 12, 23: 12, 24: 12, 25: 12, 26: 13, 27: 14, 28: 14, 30: 15, 32: 15, 242: 15, 243: 13}
"""Type or opcode to the first version of Redis's RDB that has it."""

NAMES = [b"id", b"7", b"email", b"n" * 70]
"""Fields of a template."""
HELD = [b"1", b"-70000", b"", b"v" * 300]

MANY = [b"field %d" % i for i in range(60)]
LARGE = [b"%d" % i * 40 for i in range(60)]


def template(number: int, fields: list[bytes]) -> bytes:
    return b"\xf2" + length(number) + length(len(fields)) + b"".join(map(raw, fields))


def of_listpack(number: int, values: list[bytes]) -> bytes:
    return raw(listpack([b"%d" % number, *values]))


def of_array(number: int, values: list[bytes]) -> bytes:
    return length(number) + b"".join(map(raw, values))


def plain_hash(fields: list[bytes], values: list[bytes]) -> bytes:
    """What a hash of a template becomes: type 4."""
    pairs = zip(fields, values, strict=True)
    return length(len(fields)) + b"".join(raw(field) + raw(value) for field, value in pairs)


def meta(classes: int) -> bytes:
    """Metadata of a key without the opcode: of each class a number, then values as modules write them."""
    return length(classes) + (b"ABCD" + module()[9:]) * classes


def redis_types() -> bytes:
    """An RDB of Redis 8.10 with a key of each type, twice, and all that may stand around them."""
    known = {kind: value for kind, value in VALUES.items() if kind < 22} | NEWER
    parts = [b"\xfa" + raw(b"redis-ver") + raw(b"8.10.2"), b"\xf5" + raw(b"#!lua name=f")]
    parts += [b"\xf7" + length(7) + length(2) + length(1) + module()[9:]]
    parts += [
        template(0, NAMES),
        template(300, [b"only"]),
        template(9, MANY),
        b"\xfe\x00",
        b"\xf4" + length(1) + length(2) + length(3),
    ]
    parts += [entry(b"k%d" % kind, kind, value) for kind, value in known.items()]
    parts += [entry(b"k28b", 28, array(length(0)))]
    parts += [entry(b"lp", 30, of_listpack(0, HELD)), entry(b"lzf", 30, lzf(listpack([b"300", b"z" * 500])))]
    parts += [entry(b"array", 32, of_array(0, HELD), MIN), entry(b"one", 32, length(300) + integer(-3, 1))]
    parts += [entry(b"large", 32, of_array(9, LARGE), MIN), b"\xfe\x05"]
    for kind, value in known.items():
        attached = b"\xf3" + meta(kind % 3) if kind not in range(22, 26) else b""
        at = b"\xfc" + struct.pack("<q", 1 << 41) + b"\xf9\x05" * (kind % 2) + b"\xf8" + length(900)
        parts += [at + attached + entry(b"{m%d}" % kind, kind, value)]
    parts += [b"\xf3" + meta(2) + entry(b"{m30}", 30, of_listpack(300, [b"text"]))]
    parts += [b"\xf3" + meta(2) + entry(b"{m32}", 32, of_array(9, LARGE))]
    return rdb(*parts, magic=b"REDIS0015")
