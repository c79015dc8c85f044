"""Builds RDBs and their parts by hand, and reads what the codec makes of them; independent of the codec."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any


def length(n: int) -> bytes:
    if n < 64:
        return bytes([n])
    if n < 1 << 14:
        return bytes([0x40 | n >> 8, n & 0xFF])
    if n < 1 << 32:
        return b"\x80" + n.to_bytes(4, "big")
    return b"\x81" + n.to_bytes(8, "big")


def raw(text: bytes) -> bytes:
    return length(len(text)) + text


def integer(n: int, size: int) -> bytes:
    """An integer string of 1, 2 or 4 bytes."""
    return bytes([0xC0 | {1: 0, 2: 1, 4: 2}[size]]) + n.to_bytes(size, "little", signed=True)


def compress(text: bytes) -> bytes:
    """LZF, by a slow search: a copy wherever three bytes or more occur up to 8192 bytes before."""
    out, literal, i = bytearray(), bytearray(), 0

    def flush() -> None:
        for start in range(0, len(literal), 32):
            run = literal[start : start + 32]
            out.append(len(run) - 1)
            out.extend(run)
        literal.clear()

    while i < len(text):
        size, at = 0, -1
        if i + 3 <= len(text):
            at = text.rfind(text[i : i + 3], max(0, i - 8192), i + 2)
        if at >= 0:
            size = 3
            while size < 264 and i + size < len(text) and text[at + size] == text[i + size]:
                size += 1
            flush()
            distance = i - at - 1
            if size < 9:
                out.append((size - 2) << 5 | distance >> 8)
            else:
                out += bytes([7 << 5 | distance >> 8, size - 9])
            out.append(distance & 0xFF)
            i += size
        else:
            literal.append(text[i])
            i += 1
    flush()
    return bytes(out)


def lzf(text: bytes) -> bytes:
    packed = compress(text)
    return b"\xc3" + length(len(packed)) + length(len(text)) + packed


def entry(key: bytes, kind: int, value: bytes, expire_ms: int | None = None) -> bytes:
    """An entry; `value` is serialized, `key` is not."""
    head = b"" if expire_ms is None else b"\xfc" + struct.pack("<q", expire_ms)
    return head + bytes([kind]) + raw(key) + value


def crc64(data: bytes) -> int:
    """Bit by bit, as the polynomial says."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0x95AC9329AC4BC9B5 if crc & 1 else crc >> 1
    return crc


def rdb(*parts: bytes, magic: bytes = b"VALKEY080", checksum: Callable[[bytes], int] = crc64) -> bytes:
    body = magic + b"".join(parts) + b"\xff"
    return body + checksum(body).to_bytes(8, "little")


def record(key: bytes, kind: int, value: bytes, expire_ms: int = -1) -> bytes:
    """A chunk record."""
    return struct.pack("<qII", expire_ms, len(key), len(value) + 1) + key + bytes([kind]) + value


def containers(value: bytes) -> list[int]:
    """Kinds of the nodes of a list of type 18: 1 holds one element, 2 a listpack."""
    assert value[0] == 18
    nodes, pos = _read_length(value, 1)
    kinds = []
    for _ in range(nodes):
        kind, pos = _read_length(value, pos)
        compressed = value[pos] == 0xC3
        size, pos = _read_length(value, pos + compressed)
        if compressed:
            _, pos = _read_length(value, pos)
        kinds.append(kind)
        pos += size
    assert pos == len(value)
    return kinds


def _read_length(data: bytes, pos: int) -> tuple[int, int]:
    """A length and where it ends."""
    form = data[pos] >> 6
    if form == 0:
        return data[pos], pos + 1
    if form == 1:
        return (data[pos] & 63) << 8 | data[pos + 1], pos + 2
    size = {0x80: 4, 0x81: 8}[data[pos]]
    return int.from_bytes(data[pos + 1 : pos + 1 + size], "big"), pos + 1 + size


def records(buf: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(expire_ms, key, type byte and value) of chunk records."""
    pos = 0
    while pos < len(buf):
        expire, klen, vlen = struct.unpack_from("<qII", buf, pos)
        pos += 16
        yield expire, buf[pos : pos + klen], buf[pos + klen : pos + klen + vlen]
        pos += klen + vlen
    assert pos == len(buf)


def commands(data: bytes) -> Iterator[list[bytes]]:
    """Arguments of RESP commands."""
    pos = 0
    while pos < len(data):
        end = data.index(b"\r\n", pos)
        assert data[pos : pos + 1] == b"*"
        argc, pos = int(data[pos + 1 : end]), end + 2
        argv = []
        for _ in range(argc):
            end = data.index(b"\r\n", pos)
            assert data[pos : pos + 1] == b"$"
            size = int(data[pos + 1 : end])
            argv.append(data[end + 2 : end + 2 + size])
            assert data[end + 2 + size : end + 4 + size] == b"\r\n"
            pos = end + 4 + size
        yield argv


class Framed:
    """All that a framer makes of an RDB: its events but `full`, and the records of each (database, shard)."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.buffers: dict[tuple[int, int], bytes] = {}
        self.keys = 0
        self.rest = b""

    def entries(self) -> dict[tuple[int, bytes], tuple[int, bytes]]:
        """(database, key) to (expire_ms, type byte and value), huge ones too."""
        found = {
            (db, key): (expire, value) for (db, _), buf in self.buffers.items() for expire, key, value in records(buf)
        }
        db, parts, place = 0, bytearray(), (0, b"", 0)
        for event in self.events:
            if event[0] == "db":
                db = event[1]
            elif event[0] == "huge":
                place, parts = (db, event[1], event[2]), bytearray([event[3]])
            elif event[0] == "part":
                parts += event[1]
            elif event[0] == "huge_end":
                assert event[1] == len(parts) - 1
                found[place[:2]] = (place[2], bytes(parts))
        return found

    def told(self) -> list[tuple[Any, ...]]:
        """The events with the parts of each huge value joined: where parts are cut depends on the feeds."""
        out: list[tuple[Any, ...]] = []
        for event in self.events:
            if event[0] == "part" and out[-1][0] == "part":
                out[-1] = ("part", out[-1][1] + event[1])
            else:
                out.append(event)
        return out


def frame(framer: Any, shards: int, data: bytes, sizes: Iterable[int] = ()) -> Framed:
    """Feed `data` in pieces of `sizes`, then the rest at once, draining as the framer's users must."""
    framed, db, pos = Framed(), 0, 0

    def drain() -> None:
        for shard in range(shards):
            waiting = framer.pending(shard)
            buf, keys = framer.drain(shard)
            assert len(buf) == waiting
            framed.keys += keys
            if buf:
                framed.buffers[db, shard] = framed.buffers.get((db, shard), b"") + buf

    take = iter(sizes)
    for _ in count():
        size = next(take, len(data))
        framer.feed(data[pos : pos + size])
        pos += size
        while (event := framer.next()) is not None:
            if event[0] == "full":
                drain()
                continue
            if event[0] == "db":
                drain()
                db = event[1]
            framed.events.append(event)
        if pos >= len(data):
            break
    drain()
    framed.rest = framer.rest()
    return framed
