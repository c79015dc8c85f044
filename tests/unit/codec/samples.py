"""A serialized value of each RDB type, as src/rdb.c writes it, and what it holds."""

from __future__ import annotations

import struct

from tests.unit.codec.rdb import integer, length, lzf, raw

WORDS = [b"one", b"two", b"three" * 30, b"", b"12", b"-7"]


def ziplist(entries: list[bytes]) -> bytes:
    """Entries that are a plain small integer are stored as one."""
    body, before = bytearray(), 0
    for entry in entries:
        start = len(body)
        body += bytes([before]) if before < 254 else b"\xfe" + before.to_bytes(4, "little")
        body += _ziplist_entry(entry)
        before = len(body) - start
    size = 10 + len(body) + 1
    return struct.pack("<IIH", size, size - 1 - before, min(len(entries), 0xFFFF)) + body + b"\xff"


def _ziplist_entry(entry: bytes) -> bytes:
    number = _number(entry)
    if number is not None:
        if 0 <= number <= 12:
            return bytes([0xF1 + number])
        for code, size in ((0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4), (0xE0, 8)):
            if -(1 << (8 * size - 1)) <= number < 1 << (8 * size - 1):
                return bytes([code]) + number.to_bytes(size, "little", signed=True)
    if len(entry) < 64:
        return bytes([len(entry)]) + entry
    if len(entry) < 1 << 14:
        return bytes([0x40 | len(entry) >> 8, len(entry) & 0xFF]) + entry
    return b"\x80" + len(entry).to_bytes(4, "big") + entry


def _number(entry: bytes) -> int | None:
    try:
        number = int(entry)
    except ValueError:
        return None
    return number if b"%d" % number == entry and -(1 << 63) <= number < 1 << 63 else None


def listpack(entries: list[bytes]) -> bytes:
    body = bytearray()
    for entry in entries:
        packed = _listpack_entry(entry)
        body += packed + _backlen(len(packed))
    return struct.pack("<IH", 7 + len(body), min(len(entries), 0xFFFF)) + body + b"\xff"


def _listpack_entry(entry: bytes) -> bytes:
    number = _number(entry)
    if number is not None:
        if 0 <= number <= 127:
            return bytes([number])
        if -4096 <= number <= 4095:
            return (0xC000 | number & 0x1FFF).to_bytes(2, "big")
        for code, size in ((0xF1, 2), (0xF2, 3), (0xF3, 4), (0xF4, 8)):
            if -(1 << (8 * size - 1)) <= number < 1 << (8 * size - 1):
                return bytes([code]) + number.to_bytes(size, "little", signed=True)
    if len(entry) < 64:
        return bytes([0x80 | len(entry)]) + entry
    if len(entry) < 4096:
        return (0xE000 | len(entry)).to_bytes(2, "big") + entry
    return b"\xf0" + len(entry).to_bytes(4, "little") + entry


def _backlen(size: int) -> bytes:
    """Source: Redis src/listpack.c, lpEncodeBacklen: seven bits a byte, the last with the low bits."""
    width = 1 if size <= 127 else 2 if size < 16383 else 3 if size < 2097151 else 4 if size < 268435455 else 5
    return bytes((size >> 7 * (width - 1 - i)) & 127 | (128 if i else 0) for i in range(width))


def intset(members: list[int]) -> bytes:
    width = next(w for w in (2, 4, 8) if all(-(1 << (8 * w - 1)) <= m < 1 << (8 * w - 1) for m in members))
    return struct.pack("<II", width, len(members)) + b"".join(
        m.to_bytes(width, "little", signed=True) for m in sorted(members)
    )


def zipmap(pairs: list[tuple[bytes, bytes]], free: int = 3) -> bytes:
    def head(size: int) -> bytes:
        return bytes([size]) if size < 254 else b"\xfe" + size.to_bytes(4, "little")

    body = b"".join(
        head(len(key)) + key + head(len(value)) + bytes([free]) + value + b"x" * free for key, value in pairs
    )
    return bytes([min(len(pairs), 254)]) + body + b"\xff"


def stream(version: int) -> bytes:
    """A stream with two nodes, two groups, pending entries and consumers; version 1 to 5.

    From 4 on with idempotent producers, from 5 on with pending entries of nobody.
    """
    node = listpack([b"1", b"0", b"1", b"field", b"0", b"2", b"0", b"0", b"value", b"4"])
    ids = [length(2), length(1 << 40), length(1)]
    if version >= 2:
        ids += [length(1), length(1), length(0), length(0), length(1 << 33)]
    out = length(2) + (raw(b"\x00" * 15 + b"\x01") + raw(node)) + (raw(b"\x00" * 8 + b"\x01" * 8) + lzf(node * 9))
    out += b"".join(ids) + length(2)
    for group in (b"readers", b"writers" * 20):
        out += raw(group) + length(1 << 40) + length(7) + (length(3) if version >= 2 else b"")
        out += length(2) + (b"i" * 16 + b"d" * 8 + length(300)) * 2
        out += length(2)
        for consumer in (b"alice", b"bob"):
            out += raw(consumer) + b"s" * 8 + (b"a" * 8 if version >= 3 else b"")
            out += length(2) + b"i" * 32 if consumer == b"alice" else length(0)
        if version >= 5:
            out += length(3) + b"n" * 48 if group == b"readers" else length(0)
    return out + (_producers() if version >= 4 else b"")


def _producers() -> bytes:
    """Seconds that ids are kept, how many, producers with theirs, and two counts."""
    first = raw(b"producer") + length(2) + (raw(b"id-1") + length(1 << 40) + length(0)) * 2
    return length(100) + length(1000) + length(2) + first + raw(b"p" * 70) + length(0) + length(9) + length(1 << 20)


def module() -> bytes:
    """Opcodes: signed, unsigned, float, double, string, end."""
    parts = [length(1) + length(5), length(2) + length(1 << 50), length(3) + b"ffff", length(4) + b"d" * 8]
    parts += [length(5) + raw(b"text"), length(5) + lzf(b"z" * 100), length(5) + integer(-5, 2), length(0)]
    return length(0x1234567890ABCDEF) + b"".join(parts)


def timed_hash(fields: list[tuple[bytes, bytes, int]]) -> bytes:
    return length(len(fields)) + b"".join(raw(f) + raw(v) + struct.pack("<q", t) for f, v, t in fields)


_pairs = [(b"f1", b"v1"), (b"field", b"12"), (b"300", b"x" * 300), (b"e", b"")]
_flat = [text for pair in _pairs for text in pair]
_scores = [(b"a", 1.5), (b"b", -0.0), (b"c", float("inf")), (b"d", float("-inf")), (b"e", 0.1 + 0.2)]
_text_scores = [(b"a", b"1.5"), (b"b", b"3"), (b"c", b"inf"), (b"d", b"-inf"), (b"e", b"0.30000000000000004")]
_score_list = [text for pair in _text_scores for text in pair]

VALUES: dict[int, bytes] = {
    0: raw(b"plain"),
    1: length(6) + b"".join(map(raw, WORDS)),
    2: length(3) + raw(b"a") + integer(99, 1) + lzf(b"m" * 200),
    3: length(5)
    + b"".join(
        raw(m) + (b"\xff" if s == b"-inf" else b"\xfe" if s == b"inf" else bytes([len(s)]) + s) for m, s in _text_scores
    ),
    4: length(4) + b"".join(map(raw, _flat)),
    5: length(5) + b"".join(raw(m) + struct.pack("<d", s) for m, s in _scores),
    7: module(),
    9: raw(zipmap(_pairs)),
    10: raw(ziplist(WORDS)),
    11: raw(intset([5, -3, 70000])),
    12: raw(ziplist(_score_list)),
    13: raw(ziplist(_flat)),
    14: length(2) + raw(ziplist(WORDS)) + lzf(ziplist(WORDS * 5)),
    15: stream(1),
    16: raw(listpack(_flat)),
    17: raw(listpack(_score_list)),
    18: length(3)
    + length(2)
    + raw(listpack(WORDS))
    + length(1)
    + raw(b"plain node")
    + length(2)
    + lzf(listpack(WORDS * 5)),
    19: stream(2),
    20: lzf(listpack([b"m%d" % i for i in range(40)])),
    21: stream(3),
    22: timed_hash([(b"f", b"v", -1), (b"g", b"w", 1 << 41), (b"h", b"x", 1 << 41), (b"i", b"y", 77)]),
}
"""RDB type to a serialized value, without the type byte."""

_hash = {b"f1": b"v1", b"field": b"12", b"300": b"x" * 300, b"e": b""}
MEANINGS: dict[int, object] = {
    0: b"plain",
    1: WORDS,
    2: {b"a", b"99", b"m" * 200},
    3: {b"a": 1.5, b"b": 3.0, b"c": float("inf"), b"d": float("-inf"), b"e": 0.1 + 0.2},
    4: _hash,
    5: dict(_scores),
    9: _hash,
    10: WORDS,
    11: {b"5", b"-3", b"70000"},
    12: {b"a": 1.5, b"b": 3.0, b"c": float("inf"), b"d": float("-inf"), b"e": 0.1 + 0.2},
    13: _hash,
    14: WORDS * 6,
    16: _hash,
    17: {b"a": 1.5, b"b": 3.0, b"c": float("inf"), b"d": float("-inf"), b"e": 0.1 + 0.2},
    18: [*WORDS, b"plain node", *WORDS * 5],
    20: {b"m%d" % i for i in range(40)},
    22: {b"f": (b"v", -1), b"g": (b"w", 1 << 41), b"h": (b"x", 1 << 41), b"i": (b"y", 77)},
}
"""What those values hold, where commands can rebuild them."""


def all_types(*more: bytes) -> bytes:
    """An RDB with a key of each type in database 0 and again, expiring, in database 5."""
    from tests.unit.codec.rdb import entry, rdb

    parts = [b"\xfa" + raw(b"valkey-ver") + raw(b"9.1.0"), b"\xfa" + raw(b"n") + integer(-3, 1)]
    parts += [b"\xf3" + raw(b"j" * 40) + length(2) + length(1) + length(5) + length(9) + length(300)]
    parts += [b"\xf5" + raw(b"#!lua name=f"), b"\xf5" + lzf(b"#!lua name=" + b"g" * 90)]
    parts += [b"\xf7" + length(7) + length(2) + length(1) + module()[9:]]
    parts += [b"\xfe\x00", b"\xfb" + length(22) + length(0), b"\xf4" + length(1) + length(2) + length(3)]
    parts += [entry(b"k%d" % kind, kind, value) for kind, value in VALUES.items()]
    parts += [b"\xfe\x05", b"\xfb" + length(22) + length(22)]
    for kind, value in VALUES.items():
        parts += [
            entry(b"{t%d}" % kind, kind, value, 1 << 41),
            b"\xf9\x05" * (kind % 2),
            b"\xf8" + length(900),
        ]
    parts += [b"\xfd" + (1 << 30).to_bytes(4, "little") + bytes([0]) + integer(-1234, 2) + raw(b"seconds")]
    parts += [entry(b"a long key, not compressed " * 4, 0, raw(b"long"))]
    parts += [bytes([0]) + lzf(b"key" * 40) + raw(b"packed key"), *more]
    return rdb(*parts)
