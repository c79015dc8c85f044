"""Rebuilds a stream from ordinary commands in bounded pieces, reading it as it stands in the RDB.

Sources: Redis and Valkey src/rdb.c, rdbSaveObject and rdbSaveStreamPEL; src/t_stream.c, streamAppendItem.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import groupby
from struct import unpack, unpack_from

from sync_tasks.errors import Malformed, UnsupportedType
from workers.codec.packed_cy import listpack
from workers.codec.reader_cy import Reader

TYPES = (15, 19, 21, 26, 27)
"""RDB types of streams; the last two have what Redis alone has, and no command gives: see `stream_pieces`."""
COUNTED, ACTIVE, IDEMPOTENT, UNOWNED = TYPES[1:]
"""From this type on a stream has counters; consumers a second time; producers; and pending entries of nobody."""
UNKNOWN_READ = (1 << 64) - 1
"""A group's count of entries read, if it is not known."""
DELETED, SAME_FIELDS = 1, 2
"""Flags of an entry."""
ID = 16
"""Bytes of an id where it stands raw, big endian: such ids sort as they are."""
AT_ONCE = 512
"""Ids in a command."""

Piece = tuple[bytes, list[bytes]]


def stream_pieces(
    read: Callable[[int], bytes],
    rewind: Callable[[], object],
    type: int,
    counters: bool = True,
    left_out: Callable[[int], object] = lambda _: None,
) -> Iterator[Piece]:
    """Commands that build a stream, in order, as (name and subcommand, arguments after the key).

    It has its entries, the last id, and groups with what is pending: for whom, since when, how often delivered. When
    consumers were last seen no command can say. XCLAIM takes no id that has been deleted from the stream: an entry is
    there for a moment then. Producers, whose ids Redis 8.6 remembers, and pending entries that belong to nobody (8.8)
    are left out.

    Args:
        read: as for `Reader`.
        rewind: has `read` begin the value anew; called once.
        type: the RDB type, one of TYPES.
        counters: whether the target knows of entries added, entries read, and the highest id deleted (Redis 7.0).
        left_out: told how many producers and pending entries of nobody the stream has, once.

    Holds one entry, one node, 32 bytes for each entry that is pending in one group and 16 for each in any.

    Raises:
        Malformed: the value does not follow its format or does not end where it should; with its offset.
        UnsupportedType: the type is another.
    """
    if type not in TYPES:
        raise UnsupportedType(f"a value of type {type} is no stream that commands can build")
    pending, lost = _outline(Reader(read), type)
    left_out(lost)
    rewind()
    yield from _Builder(Reader(read), type, counters and type >= COUNTED).pieces(pending)


def _outline(source: Reader, type: int) -> tuple[list[bytearray], int]:
    """The first reading, to the value's end: the ids that are pending in each group, of consumers, in order; and how
    much is left out."""
    for _ in range(source.length()):
        source.string()
        source.string()
    _skip_numbers(source, 8 if type >= COUNTED else 3)
    found, lost = [], 0
    for _ in range(source.length()):
        source.string()
        _skip_numbers(source, 3 if type >= COUNTED else 2)
        ids, _, _ = _pending(source)
        for _ in range(source.length()):
            source.string()
            source.take(16 if type >= ACTIVE else 8)
            for _ in range(source.length()):
                source.take(ID)
        if type >= UNOWNED:
            nobodys = {source.take(ID) for _ in range(source.length())}
            kept = bytearray().join(id for id in _split(ids) if id not in nobodys)
            ids, lost = kept, lost + (len(ids) - len(kept)) // ID
        found.append(ids)
    if type >= IDEMPOTENT:
        lost += _skip_producers(source)
    source.close()
    return found, lost


def _skip_producers(source: Reader) -> int:
    """How long and how many ids of producers are remembered; of each producer its ids; two counters. How many there
    are."""
    _skip_numbers(source, 2)
    producers: int = source.length()
    for _ in range(producers):
        source.string()
        for _ in range(source.length()):
            source.string()
            _skip_numbers(source, 2)
    _skip_numbers(source, 2)
    return producers


def _skip_numbers(source: Reader, count: int) -> None:
    for _ in range(count):
        source.number()


def _pending(source: Reader) -> tuple[bytearray, array[int], array[int]]:
    """What is pending in a group: ids, when each was delivered last (ms since the epoch), how often."""
    ids, times, counts = bytearray(), array("q"), array("Q")
    for _ in range(source.length()):
        id = source.take(ID)
        if ids and id <= ids[-ID:]:
            raise Malformed("pending entries of a stream are out of order", source.offset)
        ids += id
        times.append(unpack("<q", source.take(8))[0])
        counts.append(source.number())
    return ids, times, counts


def _split(ids: bytearray) -> Iterator[bytes]:
    for at in range(0, len(ids), ID):
        yield bytes(ids[at : at + ID])


def _text(id: bytes | bytearray) -> bytes:
    return b"%d-%d" % unpack(">QQ", id)


class _Builder:
    """The second reading."""

    def __init__(self, source: Reader, type: int, counters: bool) -> None:
        self._source, self._type, self._counters = source, type, counters
        self._first = b""  # raw id of the first entry that stays
        self._before, self._between = 0, bytearray()  # entries for a moment: before that, and behind it

    def pieces(self, pending: list[bytearray]) -> Iterator[Piece]:
        source = self._source
        yield from self._entries(_unique(merge(*map(_split, pending))))
        length = source.number()
        last = self._id()
        told: list[bytes] = []
        if self._type >= COUNTED:
            self._id()  # the first one's
            highest = self._id()
            added = source.number()
            if self._counters:
                told = [b"ENTRIESADDED", b"%d" % added, b"MAXDELETEDID", highest]
        groups = source.length()
        for _ in range(groups):
            yield from self._group()
        if self._type >= IDEMPOTENT:
            _skip_producers(source)
        source.close()
        if not length and not groups and not self._before:
            yield b"XGROUP CREATE", [b"none", b"0", b"MKSTREAM"]
            yield b"XGROUP DESTROY", [b"none"]
        yield from self._remove()
        yield b"XSETID", [last, *told]

    def _id(self) -> bytes:
        return b"%d-%d" % (self._source.number(), self._source.number())

    def _entries(self, pending: Iterator[bytes]) -> Iterator[Piece]:
        """XADDs in the order of ids, of what is there and, for a moment, of what is pending alone."""
        wanted = next(pending, None)
        for id, fields in self._stored():
            while wanted is not None and wanted < id:
                yield self._moment(wanted)
                wanted = next(pending, None)
            if wanted == id:
                wanted = next(pending, None)
            self._first = self._first or id
            yield b"XADD", [_text(id), *fields]
        while wanted is not None:
            yield self._moment(wanted)
            wanted = next(pending, None)

    def _moment(self, id: bytes) -> Piece:
        if self._first:
            self._between += id
        else:
            self._before += 1
        return b"XADD", [_text(id), b"", b""]

    def _stored(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """Entries: raw id, and fields with their values."""
        before = b""
        for _ in range(self._source.length()):
            key = self._source.string()
            node = listpack(self._source.string(), self._source.offset)
            if len(key) != ID:
                raise self._malformed()
            for ms, seq, fields in self._node(node):
                base_ms, base_seq = unpack_from(">QQ", key)
                id = self._raw(base_ms + ms, base_seq + seq)
                if id <= before:
                    raise self._malformed()
                before = id
                yield id, fields

    def _node(self, node: Iterator[bytes]) -> Iterator[tuple[int, int, list[bytes]]]:
        """Entries of one listpack, which begins with two counts and the fields that most of them have."""
        self._number(node)
        self._number(node)
        names = self._take(node, self._number(node))
        self._number(node)
        while (flags := next(node, None)) is not None:
            number = int(flags) if flags.isdigit() else -1
            if number & ~(DELETED | SAME_FIELDS):
                raise self._malformed()
            ms, seq = self._number(node), self._number(node)
            if number & SAME_FIELDS:
                fields = [part for pair in zip(names, self._take(node, len(names)), strict=True) for part in pair]
            else:
                fields = self._take(node, 2 * self._number(node))
            self._number(node)
            if not fields:
                raise self._malformed()
            if not number & DELETED:
                yield ms, seq, fields

    def _malformed(self) -> Malformed:
        return Malformed("a stream's entries do not follow their format before", self._source.offset)

    def _number(self, node: Iterator[bytes]) -> int:
        text = next(node, b"")
        if not text.removeprefix(b"-").isdigit():
            raise self._malformed()
        return int(text)

    def _take(self, node: Iterator[bytes], count: int) -> list[bytes]:
        """So many entries; memory is taken for those alone that are there."""
        found = [text for _, text in zip(range(count), node, strict=False)]
        if len(found) != count:
            raise self._malformed()
        return found

    def _raw(self, ms: int, seq: int) -> bytes:
        if not (0 <= ms < 1 << 64 and 0 <= seq < 1 << 64):
            raise self._malformed()
        return ms.to_bytes(8, "big") + seq.to_bytes(8, "big")

    # --- groups

    def _group(self) -> Iterator[Piece]:
        source = self._source
        name, last = source.string(), self._id()
        told: list[bytes] = []
        if self._type >= COUNTED:
            read = source.number()
            if self._counters:
                told = [b"ENTRIESREAD", b"-1" if read == UNKNOWN_READ else b"%d" % read]
        yield b"XGROUP CREATE", [name, last, b"MKSTREAM", *told]
        ids, times, counts = _pending(source)
        for _ in range(source.length()):
            consumer = source.string()
            source.take(16 if self._type >= ACTIVE else 8)
            yield b"XGROUP CREATECONSUMER", [name, consumer]
            mine = (self._find(ids, source.take(ID)) for _ in range(source.length()))
            for (ms, count), same in groupby(mine, lambda at: (times[at], counts[at])):
                told = [b"TIME", b"%d" % ms, b"RETRYCOUNT", b"%d" % count, b"FORCE", b"JUSTID"]
                for some in _batches(_text(ids[at * ID : (at + 1) * ID]) for at in same):
                    yield b"XCLAIM", [name, consumer, b"0", *some, *told]
        if self._type >= UNOWNED:
            for _ in range(source.length()):
                source.take(ID)

    def _find(self, ids: bytearray, id: bytes) -> int:
        """Where in them an id is."""
        low, high = 0, len(ids) // ID
        while low < high:
            middle = (low + high) // 2
            if ids[middle * ID : (middle + 1) * ID] < id:
                low = middle + 1
            else:
                high = middle
        if ids[low * ID : (low + 1) * ID] != id:
            raise Malformed("a consumer has an entry that is not pending in its group", self._source.offset)
        return low

    def _remove(self) -> Iterator[Piece]:
        """Trimming, unlike deleting, leaves the highest id deleted as it is; in the middle there were deletions."""
        if self._before:
            yield b"XTRIM", [b"MINID", b"=", _text(self._first)] if self._first else [b"MAXLEN", b"=", b"0"]
        for some in _batches(map(_text, _split(self._between))):
            yield b"XDEL", some


def _unique(ids: Iterator[bytes]) -> Iterator[bytes]:
    for id, _ in groupby(ids):
        yield id


def _batches(items: Iterator[bytes]) -> Iterator[list[bytes]]:
    some: list[bytes] = []
    for item in items:
        some.append(item)
        if len(some) == AT_ONCE:
            yield some
            some = []
    if some:
        yield some
