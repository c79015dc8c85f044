"""A value as the commands that make it: what a transform sees of a snapshot, and of a key that is copied anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO

from workers.codec import STREAM_TYPES, can_piece, crc64, pieces, stream_pieces

PIECE_BYTES = 1 << 20
PIECE_ITEMS = 512

TYPES = {
    **dict.fromkeys((0,), "string"),
    **dict.fromkeys((1, 10, 14, 18), "list"),
    **dict.fromkeys((2, 11, 20), "set"),
    **dict.fromkeys((3, 5, 12, 17), "zset"),
    **dict.fromkeys((4, 9, 13, 16, 22, 23, 24, 25), "hash"),
    **dict.fromkeys((15, 19, 21, 26, 27), "stream"),
}
"""RDB type to what TYPE says; of modules nothing is known."""


def commands_of(
    key: bytes,
    kind: int,
    read: Callable[[int], bytes],
    rewind: Callable[[], object],
    version: int,
    when: int,
    counters: bool = True,
) -> Iterator[list[bytes]]:
    """The commands that make a key whatever was there before, in order: SET of a string, else DEL and what adds to it.

    A long value comes in pieces. What no command can make comes as one RESTORE.

    Args:
        kind: its RDB type.
        read, rewind: of the value behind the type, as for `pieces` and `stream_pieces`.
        version: RDB version of whoever wrote it.
        when: its expiry in ms since the epoch; -1: none.
        counters: whether the target's streams have counters.

    Raises Malformed.
    """
    if kind == 0:
        yield from _string(key, read, version, when)
        return
    if kind in STREAM_TYPES:
        found = stream_pieces(read, rewind, kind, counters)
    elif can_piece(kind):
        found = pieces(read, kind, PIECE_BYTES, PIECE_ITEMS, 0, version)
    else:
        yield _restore(key, kind, read, version, when)
        return
    yield [b"DEL", key]
    for name, arguments in found:
        yield [*name.split(), key, *arguments]
    if when >= 0:
        yield [b"PEXPIREAT", key, b"%d" % when]


def commands_of_dump(key: bytes, payload: bytes, when: int, counters: bool = True) -> Iterator[list[bytes]]:
    """The same of what DUMP gave."""
    value = BytesIO(payload[1:-10])
    version = int.from_bytes(payload[-10:-8], "little")
    return commands_of(key, payload[0], value.read, lambda: value.seek(0), version, when, counters)


def _string(key: bytes, read: Callable[[int], bytes], version: int, when: int) -> Iterator[list[bytes]]:
    parts = (arguments[0] for _, arguments in pieces(read, 0, PIECE_BYTES, PIECE_ITEMS, 0, version))
    first, second = next(parts), next(parts, None)
    if second is None:
        yield [b"SET", key, first, *([b"PXAT", b"%d" % when] if when >= 0 else [])]
        return
    yield [b"SET", key, first]
    yield [b"APPEND", key, second]
    for part in parts:
        yield [b"APPEND", key, part]
    if when >= 0:
        yield [b"PEXPIREAT", key, b"%d" % when]


def _restore(key: bytes, kind: int, read: Callable[[int], bytes], version: int, when: int) -> list[bytes]:
    body = bytearray((kind,))
    while block := read(PIECE_BYTES):
        body += block
    body += version.to_bytes(2, "little")
    body += crc64(bytes(body)).to_bytes(8, "little")
    return [b"RESTORE", key, b"%d" % max(when, 0), bytes(body), b"REPLACE", b"ABSTTL"]
