"""Rebuilds one huge value from ordinary commands in bounded pieces, reading it as it stands in the RDB.

Source of the encodings: Redis and Valkey src/rdb.c, rdbLoadObject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import unpack_from

from sync_tasks.errors import Malformed, UnsupportedType
from workers.codec.lzf_cy import EXPANDS, Expander
from workers.codec.packed_cy import intset, listpack, ziplist, zipmap
from workers.codec.programs import TIMED_HASHES, VALKEY_VERSIONS
from workers.codec.reader_cy import BLOCK, Reader

FIELD_REAL = 1 << 44  # ms: a time from here on never comes, and takes no hold
"""Latest expiry of a hash field, in ms."""

_COMMANDS = dict.fromkeys((1, 10, 14, 18), b"RPUSH")
_COMMANDS |= dict.fromkeys((2, 11, 20), b"SADD")
_COMMANDS |= dict.fromkeys((3, 5, 12, 17), b"ZADD")
_COMMANDS |= dict.fromkeys((4, 9, 13, 16), b"HSET")


def can_piece(type: int) -> bool:
    """Whether `pieces` can rebuild a value of this RDB type; modules and arrays it cannot, and streams are for
    `stream_pieces`."""
    return type in _COMMANDS or type == 0 or type in TIMED_HASHES


def pieces(
    read: Callable[[int], bytes],
    type: int,
    max_bytes: int = 1 << 20,
    max_items: int = 512,
    field_hold: int = 0,
    source: int = VALKEY_VERSIONS[0],
) -> Iterator[tuple[bytes, list[bytes]]]:
    """Commands that build a value, in order, as (name, arguments after the key).

    Args:
        read: called with n > 0; returns 1 to n bytes of the serialized value (it begins after the type byte),
            and b"" at its end.
        type: the RDB type.
        max_bytes: of arguments in a command; only a single element may be longer. At least 1024.
        max_items: elements, or pairs, in a command.
        field_hold: ms added to the expiry of hash fields below 2**44; later ones stay as they are.
        source: RDB version of whoever wrote it: Valkey and Redis write hashes whose fields expire each in their way.

    Holds one command, one block and, of packed containers, one node.

    Raises:
        Malformed: the value does not follow its format or does not end where it should; with its offset.
        UnsupportedType: `can_piece` is false.
    """
    if not can_piece(type):
        raise UnsupportedType(f"a value of type {type} cannot be built in pieces")
    reader = Reader(read)
    if type == 0:
        yield from _text(reader, max(max_bytes, 1024))
    elif type in TIMED_HASHES:
        yield from _timed(reader, type, source, max_bytes, max_items, field_hold)
    else:
        for args, _ in _batches(_elements(reader, type), max_bytes, max_items):
            yield _COMMANDS[type], args
    reader.close()


def text_size(read: Callable[[int], bytes]) -> int:
    """Bytes of a string, expanded, as its head states; 0: it stands as a number.

    Args:
        read: as for `pieces`; the head is read, and a block behind it.
    Raises Malformed, also for a length to which it cannot expand.
    """
    reader = Reader(read)
    kind, size = reader.head()
    if kind != 3:
        return int(size)
    wide = int(reader.length())
    if wide > EXPANDS * size:
        raise Malformed("a compressed string states an impossible length", reader.offset)
    return wide


def _batches(
    elements: Iterator[tuple[bytes, ...]], max_bytes: int, max_items: int
) -> Iterator[tuple[list[bytes], list[int]]]:
    """Gather the arguments of elements; with each batch the position in it at which each element begins."""
    args: list[bytes] = []
    starts: list[int] = []
    size = 0
    for element in elements:
        more = sum(map(len, element))
        if starts and (size + more > max_bytes or len(starts) >= max_items):
            yield args, starts
            args, starts, size = [], [], 0
        starts.append(len(args))
        args.extend(element)
        size += more
    if starts:
        yield args, starts


def _timed(
    reader: Reader, kind: int, source: int, max_bytes: int, max_items: int, hold: int
) -> Iterator[tuple[bytes, list[bytes]]]:
    """HSET of fields and values, each followed by HPEXPIREAT for those of them that expire."""
    times: list[int] = []
    valkey = source >= VALKEY_VERSIONS[0]
    found = _timed_fields(reader, times) if valkey else _redis_fields(reader, kind, times)
    for args, starts in _batches(found, max_bytes, max_items):
        yield b"HSET", args
        by_time: dict[int, list[bytes]] = {}
        for start, time in zip(starts, times, strict=False):
            if time != -1:
                by_time.setdefault(time, []).append(args[start])
        del times[: len(starts)]
        for time, fields in by_time.items():
            held = time + hold if time < FIELD_REAL else time
            yield b"HPEXPIREAT", [b"%d" % held, b"FIELDS", b"%d" % len(fields), *fields]


def _timed_fields(source: Reader, times: list[int]) -> Iterator[tuple[bytes, ...]]:
    """Valkey's: field, value, and eight bytes of time, -1: none."""
    for _ in range(source.length()):
        pair = (source.string(), source.string())
        times.append(unpack_from("<q", source.take(8))[0])
        yield pair


def _redis_fields(source: Reader, kind: int, times: list[int]) -> Iterator[tuple[bytes, ...]]:
    """Redis's: since the release behind the first time of all; then as numbers from there on, field and value, or as a
    listpack of field, value and time. 0: none."""
    least = unpack_from("<q", source.take(8))[0] if kind >= 24 else 1
    if kind % 2 == 0:
        for _ in range(source.length()):
            number = source.number()
            times.append(least + number - 1 if number else -1)
            yield source.string(), source.string()
        return
    entries = listpack(source.string(), source.offset)
    for field in entries:
        value, time = next(entries, None), next(entries, b"")
        if value is None or not time.isdigit():
            raise Malformed("a packed hash whose fields expire does not follow its format before", source.offset)
        times.append(int(time) or -1)
        yield field, value


def _elements(source: Reader, kind: int) -> Iterator[tuple[bytes, ...]]:
    """Elements of a container, each as the arguments that add it."""
    if kind in (1, 2):
        for _ in range(source.length()):
            yield (source.string(),)
    elif kind == 3:
        for _ in range(source.length()):
            member = source.string()
            yield _text_score(source), member
    elif kind == 4:
        for _ in range(source.length()):
            yield source.string(), source.string()
    elif kind == 5:
        for _ in range(source.length()):
            member = source.string()
            yield _score(unpack_from("<d", source.take(8))[0], source.offset), member
    elif kind == 14:
        for _ in range(source.length()):
            yield from _singles(ziplist(source.string(), source.offset))
    elif kind == 18:
        yield from _quicklist(source)
    else:
        yield from _packed(source, kind)


def _packed(source: Reader, kind: int) -> Iterator[tuple[bytes, ...]]:
    """Elements of a container that is one string."""
    blob = source.string()
    offset = source.offset
    if kind == 9:
        yield from _pairs(zipmap(blob, offset), offset)
        return
    if kind == 11:
        yield from _singles(intset(blob, offset))
        return
    entries = ziplist(blob, offset) if kind in (10, 12, 13) else listpack(blob, offset)
    if kind in (10, 20):
        yield from _singles(entries)
    elif kind in (13, 16):
        yield from _pairs(entries, offset)
    else:
        for member, score in _pairs(entries, offset):
            yield _parse_score(score, offset), member


def _quicklist(source: Reader) -> Iterator[tuple[bytes, ...]]:
    """Nodes of a list: 1 holds one element, 2 a listpack."""
    for _ in range(source.length()):
        container = source.length()
        if container == 1:
            yield (source.string(),)
        elif container == 2:
            yield from _singles(listpack(source.string(), source.offset))
        else:
            raise Malformed("a list node is of an unknown kind", source.offset)


def _singles(entries: Iterator[bytes]) -> Iterator[tuple[bytes, ...]]:
    for entry in entries:
        yield (entry,)


def _pairs(entries: Iterator[bytes], offset: int) -> Iterator[tuple[bytes, bytes]]:
    for first in entries:
        second = next(entries, None)
        if second is None:
            raise Malformed("a packed hash or sorted set has an odd number of entries before", offset)
        yield first, second


def _score(value: float, offset: int) -> bytes:
    """A score as text that reads back to the same bits."""
    if value != value:
        raise Malformed("a sorted set has a score that is not a number", offset)
    return repr(value).encode()


def _parse_score(text: bytes, offset: int) -> bytes:
    """A score that stands as text, brought to the form that reads back to the same bits."""
    try:
        if b"_" in text:
            raise ValueError
        return _score(float(text), offset)
    except ValueError:
        raise Malformed("a sorted set has a score that is not a number", offset) from None


def _text_score(source: Reader) -> bytes:
    """Score of the oldest form: a length byte and text, or one of three marks."""
    size = source.take(1)[0]
    if size == 255:
        return b"-inf"
    if size == 254:
        return b"inf"
    return _parse_score(source.take(size) if size != 253 else b"nan", source.offset)


def _text(source: Reader, max_bytes: int) -> Iterator[tuple[bytes, list[bytes]]]:
    """APPENDs of a string; an empty one still makes the key."""
    kind, size = source.head()
    if kind == 0:
        if size == 0:
            yield b"APPEND", [b""]
        while size:
            piece = source.take(min(size, max_bytes))
            size -= len(piece)
            yield b"APPEND", [piece]
        return
    if kind != 3:
        yield b"APPEND", [source.integer(kind)]
        return
    expander = Expander(source.length(), max_bytes - 512)
    while size:
        block = source.take(min(size, BLOCK))
        size -= len(block)
        expander.feed(block)
        while piece := expander.take():
            yield b"APPEND", [piece]
    expander.close()
