"""Values for a target that does not read them as they stand: the same value in an older form, or its sibling's.

Every server reads the plain forms (a list, set, hash or sorted set as so many strings), and packs them anew by its own
thresholds. Source: Redis and Valkey src/rdb.c, rdbLoadObject and rdbSaveObject.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack, unpack_from

import cython

from sync_tasks.errors import Malformed, UnsupportedType
from workers.codec.lzf_cy import decompress
from workers.codec.packed_cy import listpack
from workers.codec.programs import VALKEY_VERSIONS

if cython.compiled:
    from cython.cimports.workers.codec.raw_cy import head_size, length, string_end
else:
    from workers.codec.raw_cy import head_size, length, string_end

LIST, SET, HASH, ZSET, STREAM = 1, 2, 4, 5, 15
"""The forms that every server since Redis 5.0 reads."""
VALKEY_TIMED, REDIS_TIMED = 22, 24
"""Hashes whose fields may expire, as Valkey 9 and as Redis 7.4 write them."""
COUNTED, ACTIVE, IDEMPOTENT, UNOWNED = STREAMS = 19, 21, 26, 27
"""Streams with counters; with the time a consumer was last active; of Redis alone, with producers; and with pending
entries of nobody."""
FIELD_REAL = 1 << 44  # ms: a time from here on never comes, and takes no hold
LATEST = (1 << 46) - 1
"""Latest expiry of a field that Redis takes, ms."""


def convert(kind: int, value: bytes, source: int, timed: int, stream: int, hold: int) -> tuple[int, bytes, int]:
    """A value in a form that the target reads.

    Args:
        kind: its RDB type.
        value: as it stands in the RDB, behind the type byte.
        source: RDB version of whoever wrote it.
        timed: the target's own type of hashes whose fields expire, VALKEY_TIMED or REDIS_TIMED; 0: it has none.
        stream: the latest type of streams that it reads.
        hold: ms added to field expiries below 2**44; later ones stay as they are.

    Returns:
        Type and value; and how many things it had that the target has no place for: expiries of fields, producers of
        a stream, pending entries of nobody.

    Raises:
        Malformed: the value does not follow its format; offsets are in the value.
        UnsupportedType: only its own servers know this type.
    """
    if kind == 16:
        return HASH, *_strings(listpack(_blob(value), len(value)), 2, len(value)), 0
    if kind == 17:
        return ZSET, _scores(listpack(_blob(value), len(value)), len(value)), 0
    if kind == 18:
        return LIST, _quicklist(value), 0
    if kind == 20:
        return SET, *_strings(listpack(_blob(value), len(value)), 1, len(value)), 0
    if kind in (COUNTED, ACTIVE, IDEMPOTENT, UNOWNED):
        return _Stream(value, kind).convert(stream)
    if 22 <= kind <= 25:
        return _timed(_fields(kind, value, source), timed, hold)
    raise UnsupportedType(
        f"a value of type {kind}, which the source's line of servers alone has, cannot be carried to this target",
        hint="name a target of the source's line and version, or delete it on the source",
    )


@cython.cfunc
def _stated(n: cython.Py_ssize_t) -> bytes:
    """A length as an RDB states it."""
    if n < 64:
        return bytes((n,))
    if n < 1 << 14:
        return bytes((0x40 | n >> 8, n & 0xFF))
    if n < 1 << 32:
        return b"\x80" + n.to_bytes(4, "big")
    return b"\x81" + n.to_bytes(8, "big")


@cython.cfunc
@cython.exceptval(-1, check=False)
def _string(data: bytes, pos: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """End of the string at `pos`. Raises Malformed."""
    after: cython.Py_ssize_t = string_end(data, pos, len(data))
    if after < 0:
        raise Malformed("a string passes the end of its value", pos)
    return after


@cython.cfunc
@cython.exceptval(-1, check=False)
def _head(data: bytes, pos: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Bytes that the length at `pos` takes. Raises Malformed."""
    size: cython.Py_ssize_t = head_size(data, pos, len(data))
    if size < 0:
        raise Malformed("a length passes the end of its value", pos)
    return size


@cython.cfunc
def _text(data: bytes, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> bytes:
    """The string at `pos`, which ends at `end`."""
    size: cython.Py_ssize_t
    first: cython.int = data[pos]
    if first < 192:
        return data[pos + head_size(data, pos, end) : end]
    if first < 195:
        return b"%d" % int.from_bytes(data[pos + 1 : end], "little", signed=True)
    size = head_size(data, pos + 1, end)
    wide: object = length(data, pos + 1 + size, head_size(data, pos + 1 + size, end))
    return decompress(data[pos + 1 + size + head_size(data, pos + 1 + size, end) : end], wide)


@cython.cfunc
def _blob(value: bytes) -> bytes:
    """The container that a value is."""
    if _string(value, 0) != len(value):
        raise Malformed("bytes follow a value", len(value))
    return _text(value, 0, len(value))


def _strings(entries: Iterator[bytes], each: int, offset: int) -> tuple[bytes]:
    """A count, and entries as strings; `each` of them are one element."""
    parts = [b""]
    for entry in entries:
        parts.append(_stated(len(entry)))
        parts.append(entry)
    count, odd = divmod(len(parts) // 2, each)
    if odd or not count:
        raise Malformed("a packed value has an odd number of entries, or none, before", offset)
    parts[0] = _stated(count)
    return (b"".join(parts),)


def _scores(entries: Iterator[bytes], offset: int) -> bytes:
    """Members and scores, these as eight bytes."""
    parts = [b""]
    for member in entries:
        score = next(entries, b"")
        try:
            number = float(score)
        except ValueError:
            number = float("nan")
        if number != number or b"_" in score:
            raise Malformed("a sorted set has a score that is not a number before", offset)
        parts += (_stated(len(member)), member, pack("<d", number))
    if len(parts) == 1:
        raise Malformed("a sorted set is empty before", offset)
    parts[0] = _stated(len(parts) // 3)
    return b"".join(parts)


def _quicklist(value: bytes) -> bytes:
    """Nodes of a list, each one element or a listpack of some."""
    size: cython.Py_ssize_t = _head(value, 0)
    nodes: object = length(value, 0, size)
    pos: cython.Py_ssize_t = size
    kind: cython.ulonglong
    after: cython.Py_ssize_t
    count: cython.Py_ssize_t = 0
    parts = [b""]
    while nodes:
        nodes -= 1
        size = _head(value, pos)
        kind = length(value, pos, size)
        pos += size
        after = _string(value, pos)
        if kind == 1:
            parts.append(value[pos:after])
            count += 1
        elif kind == 2:
            for entry in listpack(_text(value, pos, after), after):
                parts.append(_stated(len(entry)))
                parts.append(entry)
                count += 1
        else:
            raise Malformed("a list node is of an unknown kind", pos)
        pos = after
    if pos != len(value) or not count:
        raise Malformed("a list does not end where its value does", pos)
    parts[0] = _stated(count)
    return b"".join(parts)


# --- hashes whose fields expire


def _fields(kind: int, value: bytes, source: int) -> list[tuple[bytes, int]]:
    """Field and value, each as a string of an RDB, and its expiry in ms, -1: none."""
    if source >= VALKEY_VERSIONS[0]:
        return _stated_fields(value, 0, None)
    least = 0
    if kind >= REDIS_TIMED:
        if len(value) < 8:
            raise Malformed("a hash ends before its fields", len(value))
        least = unpack_from("<q", value)[0]
        if least < 0:
            raise Malformed("the first expiry of a hash lies before 1970", 0)
    start = 8 if kind >= REDIS_TIMED else 0
    if kind % 2 == 0:
        return _stated_fields(value, start, least if kind >= REDIS_TIMED else 1)
    return _listed_fields(value, start)


def _listed_fields(value: bytes, start: int) -> list[tuple[bytes, int]]:
    """A listpack of field, value and time, 0: none."""
    entries = listpack(_blob(value[start:]), len(value))
    found = []
    for field in entries:
        text, time = next(entries, None), next(entries, b"")
        if text is None or not time.isdigit() or len(time) > 18:
            raise Malformed("a packed hash whose fields expire does not follow its format before", len(value))
        found.append((_stated(len(field)) + field + _stated(len(text)) + text, int(time) or -1))
    return found


def _stated_fields(value: bytes, start: int, least: int | None) -> list[tuple[bytes, int]]:
    """Valkey: field, value, eight bytes of time (`least` None). Redis: a number, 0 or the time from `least` on plus
    one, field, value."""
    size: cython.Py_ssize_t = _head(value, start)
    left: object = length(value, start, size)
    pos: cython.Py_ssize_t = start + size
    after: cython.Py_ssize_t
    found = []
    while left:
        left -= 1
        time = -1
        if least is not None:
            size = _head(value, pos)
            number: object = length(value, pos, size)
            time = least + number - 1 if number else -1
            pos += size
        after = _string(value, _string(value, pos))
        pair = value[pos:after]
        pos = after
        if least is None:
            if len(value) - pos < 8:
                raise Malformed("a hash ends before the expiry of a field", pos)
            time = unpack_from("<q", value, pos)[0]
            pos += 8
        if time < -1 or time >= 1 << 63:
            raise Malformed("the expiry of a field is no time", pos)
        found.append((pair, time))
    if pos != len(value) or not found:
        raise Malformed("a hash does not end where its value does", pos)
    return found


def _timed(fields: list[tuple[bytes, int]], timed: int, hold: int) -> tuple[int, bytes, int]:
    count = _stated(len(fields))
    times = [time for _, time in fields if time != -1]
    if not timed or not times:
        return HASH, count + b"".join(pair for pair, _ in fields), len(times)
    held = [(pair, time + hold if 0 <= time < FIELD_REAL else time) for pair, time in fields]
    if timed == VALKEY_TIMED:
        return timed, count + b"".join(pair + pack("<q", time) for pair, time in held), 0
    held = [(pair, min(time, LATEST)) for pair, time in held]
    least = min(time for _, time in held if time != -1)
    stated = [(_stated(time - least + 1 if time != -1 else 0), pair) for pair, time in held]
    return timed, pack("<q", least) + count + b"".join(time + pair for time, pair in stated), 0


# --- streams


@cython.cclass
class _Stream:
    """One reading of a stream, which copies what older servers know."""

    _data: bytes
    _kind: cython.int
    _pos: cython.Py_ssize_t
    _parts: list
    _lost: cython.Py_ssize_t

    def __init__(self, data: bytes, kind: int) -> None:
        self._data, self._kind = data, kind
        self._pos = 0
        self._lost = 0
        self._parts = []

    def convert(self, kind: int) -> tuple[int, bytes, int]:
        """As a stream of an earlier type."""
        left: object
        start: cython.Py_ssize_t = self._pos
        for _ in range(self._number()):
            self._pos = _string(self._data, _string(self._data, self._pos))
        self._numbers(3)
        self._copy(start)
        start = self._pos
        self._numbers(5)
        if kind >= COUNTED:
            self._copy(start)
        start = self._pos
        left = self._number()
        self._copy(start)
        while left:
            left -= 1
            self._group(kind)
        if self._kind >= IDEMPOTENT:
            self._producers()
        if self._pos != len(self._data):
            raise Malformed("bytes follow a stream", self._pos)
        return kind, b"".join(self._parts), self._lost

    @cython.cfunc
    def _number(self) -> object:
        size: cython.Py_ssize_t = _head(self._data, self._pos)
        self._pos += size
        return length(self._data, self._pos - size, size)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _numbers(self, count: cython.int) -> cython.int:
        for _ in range(count):
            self._pos += _head(self._data, self._pos)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _skip(self, size: object) -> cython.int:
        if size > len(self._data) - self._pos:
            raise Malformed("a stream ends too early", self._pos)
        self._pos += size
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _copy(self, start: cython.Py_ssize_t) -> cython.int:
        self._parts.append(self._data[start : self._pos])
        return 0

    def _group(self, kind: int) -> None:
        start: cython.Py_ssize_t = self._pos
        self._pos = _string(self._data, self._pos)
        self._numbers(2)
        self._copy(start)
        start = self._pos
        self._numbers(1)
        if kind >= COUNTED:
            self._copy(start)
        pending: list = []
        for _ in range(self._number()):
            start = self._pos
            self._skip(24)
            self._numbers(1)
            pending.append(self._data[start : self._pos])
        place = len(self._parts)
        start = self._pos
        left: object = self._number()
        self._copy(start)
        while left:
            left -= 1
            self._consumer(kind)
        if self._kind >= UNOWNED:  # without a consumer older servers would not know whose they are
            nobodys = {self._id() for _ in range(self._number())}
            before: cython.Py_ssize_t = len(pending)
            pending = [one for one in pending if one[:16] not in nobodys]
            self._lost += before - len(pending)
        self._parts.insert(place, _stated(len(pending)) + b"".join(pending))

    def _id(self) -> bytes:
        self._skip(16)
        return self._data[self._pos - 16 : self._pos]

    def _consumer(self, kind: int) -> None:
        start: cython.Py_ssize_t = self._pos
        self._pos = _string(self._data, self._pos)
        self._skip(8)
        self._copy(start)
        if self._kind >= ACTIVE:
            start = self._pos
            self._skip(8)
            if kind >= ACTIVE:
                self._copy(start)
        start = self._pos
        self._skip(16 * self._number())
        self._copy(start)

    def _producers(self) -> None:
        """How long and how many ids of producers are remembered; of each producer its ids; two counters and a limit."""
        self._numbers(2)
        producers: object = self._number()
        self._lost += producers
        while producers:
            producers -= 1
            self._pos = _string(self._data, self._pos)
            for _ in range(self._number()):
                self._pos = _string(self._data, self._pos)
                self._numbers(2)
        self._numbers(2)


# --- chunks


@cython.final
@cython.cclass
class Transcriber:
    """Records of a chunk (see `RestoreEncoder`) in the forms that a target reads.

    Args:
        takes: 256 bytes, 1 for each RDB type that travels as it stands.
        source, timed, stream, hold: as for `convert`.
    """

    lost = cython.declare(cython.Py_ssize_t, visibility="readonly")
    """So far, as `convert` counts."""
    first = cython.declare(bytes, visibility="readonly")
    """The key of the first value that lost something."""
    _takes: bytes
    _source: cython.int
    _timed: cython.int
    _stream: cython.int
    _hold: cython.longlong

    def __init__(self, takes: bytes, source: int, timed: int, stream: int, hold: int) -> None:
        if len(takes) != 256:
            raise ValueError("takes has a byte for each type")
        self._takes, self._source, self._timed, self._stream, self._hold = takes, source, timed, stream, hold
        self.lost = 0
        self.first = b""

    def take(
        self,
        buf: bytes | bytearray | memoryview,
        pos: cython.Py_ssize_t,
        max_keys: cython.Py_ssize_t,
        max_bytes: cython.Py_ssize_t,
        largest: cython.Py_ssize_t,
    ) -> tuple[bytearray, int, int]:
        """The records of `buf` from `pos`, until there are `max_keys`, or `max_bytes` were read.

        Stops before one that is not all there, that is huge, or that is to be converted and larger than `largest`; not
        before a stream, of which nothing is unpacked.

        Returns:
            The records, how many, and the position of the first one left.

        Raises:
            Malformed, UnsupportedType: as `convert`; offsets are in `buf`.
        """
        out = bytearray()
        keys: cython.Py_ssize_t = 0
        start: cython.Py_ssize_t = pos
        since: cython.Py_ssize_t = pos
        end: cython.Py_ssize_t = len(buf)
        klen: cython.Py_ssize_t
        vlen: cython.Py_ssize_t
        at: cython.Py_ssize_t
        p: cython.const[cython.uchar][::1] = buf
        while keys < max_keys and pos - start < max_bytes and end - pos >= 16:
            klen = _four(p, pos + 8)
            vlen = _four(p, pos + 12)
            if vlen == 0xFFFFFFFF or vlen == 0 or klen + vlen > end - pos - 16:
                break
            at = pos + 16 + klen
            if not self._takes[p[at]]:
                if vlen > largest and p[at] not in STREAMS:
                    break
                out += buf[since:pos]
                self._convert(buf, pos, at, at + vlen, out)
                since = at + vlen
            pos = at + vlen
            keys += 1
        out += buf[since:pos]
        return out, keys, pos

    @cython.cfunc
    def _convert(
        self, buf: object, pos: cython.Py_ssize_t, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: bytearray
    ) -> object:
        try:
            kind, value, lost = convert(
                buf[at], bytes(buf[at + 1 : end]), self._source, self._timed, self._stream, self._hold
            )
        except Malformed as e:
            key = bytes(buf[pos + 16 : min(at, pos + 16 + 64)])
            raise type(e)(f"{e.message}, of key {key!r},", at + 1 + max(0, e.offset), hint=e.hint) from None
        if lost and not self.lost:
            self.first = bytes(buf[pos + 16 : at])
        self.lost += lost
        out += buf[pos : pos + 12]
        out += pack("<I", 1 + len(value))
        out += buf[pos + 16 : at]
        out.append(kind)
        out += value
        return None


@cython.cfunc
@cython.inline
def _four(p: cython.const[cython.uchar][::1], at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    return p[at] | (p[at + 1] << 8) | (p[at + 2] << 16) | (cython.cast(cython.Py_ssize_t, p[at + 3]) << 24)
