"""Frames an RDB as it arrives: finds each entry's extent and sorts the entries, unread, into shards.

Source: Redis and Valkey src/rdb.c (rdbLoadRioWithLoadingCtx) and rdb.h.
"""

from __future__ import annotations

import cython

from sync_tasks.errors import Malformed
from workers.codec.programs import COLLECTIONS, TIMED_HASHES, header, name, starts
from workers.codec.template_cy import Templates

if cython.compiled:
    from cython.cimports.workers.codec.filter_cy import Filter
    from cython.cimports.workers.codec.part_cy import Parted
    from cython.cimports.workers.codec.raw_cy import load_signed
    from cython.cimports.workers.codec.shard_cy import Shard
else:
    from workers.codec.filter_cy import Filter
    from workers.codec.part_cy import Parted
    from workers.codec.raw_cy import load_signed
    from workers.codec.shard_cy import Shard

FULL = 256 << 10
"""Bytes in a shard's buffer from which `full` is reported."""

# Numbers of types and opcodes as in workers.codec.programs, for speed.
_HASH = cython.declare(cython.int, 4)
_COLLECTIONS = cython.declare(cython.int, sum(1 << kind for kind in COLLECTIONS))
_OF_LISTPACK = cython.declare(cython.int, 30)
_OF_ARRAY = cython.declare(cython.int, 32)
_TEMPLATE = cython.declare(cython.int, 242)
_KEY_META = cython.declare(cython.int, 243)

NEVER = cython.declare(cython.longlong, -(1 << 62))  # ms: no key's time is before that

# Phases of the framer.
_HEADER = cython.declare(cython.int, 0)
_TOP = cython.declare(cython.int, 1)  # between entries
_KEY = cython.declare(cython.int, 2)
_VALUE = cython.declare(cython.int, 3)  # kept from _head on until its end is found
_HUGE = cython.declare(cython.int, 4)  # a value passed on in parts
_HELD = cython.declare(cython.int, 5)  # aux field or function: kept until its end is found
_DROP = cython.declare(cython.int, 6)  # walked and forgotten
_SUM = cython.declare(cython.int, 7)  # before the checksum
_END = cython.declare(cython.int, 8)
_FAILED = cython.declare(cython.int, 9)
_META = cython.declare(cython.int, 10)  # what modules attached to a key: kept until its end is found


@cython.final
@cython.cclass
class Framer(Parted):
    """`feed` bytes of an RDB, `next` until None; entries gather in the shards' buffers as chunk records.

    Args:
        shards: number of ranges of slots, 1 to 16384.
        huge_bytes: a value longer than this is passed on in parts; a key and its metadata, an aux field, function or
            hash template may not be longer.
    """

    db = cython.declare(cython.longlong, visibility="readonly")
    over = cython.declare(cython.longlong, visibility="readonly")
    _past: cython.longlong
    _phase: cython.int
    _valkey: cython.bint
    _checked: cython.bint  # whether a checksum follows
    _expire: cython.longlong
    _shards: list
    _filter: object

    def __init__(self, shards: int, huge_bytes: int = 8 << 20) -> None:
        if not 1 <= shards <= 16384:
            raise ValueError("shards must be 1 to 16384")
        Parted.__init__(self, shards)
        self._shards = [Shard() for _ in range(shards)]
        self._limit = min(max(huge_bytes, 64), 1 << 30)
        self._templates = Templates()
        self._phase = 0
        self._valkey = self._checked = False
        self._expire = -1
        self._filter = None
        self._past = NEVER
        self.db = self.over = 0

    def sort_by(self, table: bytes) -> None:
        """The shard of each hash slot, a byte each, instead of equal ranges of slots."""
        if len(table) != 16384 or max(table) >= self.shards:
            raise ValueError("a shard for each of 16384 slots")
        self._table = table

    def filter(self, key_filter: object) -> None:
        """From here on, pass over keys that a `Filter` does not take; None: take all. Huge values are the caller's."""
        self._filter = key_filter

    def leave_out(self, before_ms: int) -> None:
        """From here on, pass over keys whose time is before that, and count them in `over`: nobody tells when they go.
        Huge values are the caller's."""
        self._past = before_ms

    def pending(self, shard: int) -> int:
        """Bytes that wait in a shard's buffer."""
        return cython.cast(Shard, self._shards[shard]).size

    def drain(self, shard: int) -> tuple[bytes, int]:
        """What waits in a shard's buffer, and its number of keys; empties it."""
        return cython.cast(Shard, self._shards[shard]).drain()

    def rest(self) -> bytes:
        """After `end`: the bytes fed that follow the RDB."""
        data: cython.p_uchar = self._buf
        return bytes(data[self._pos : self._tail]) if self._phase == _END else b""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes as they arrive; `next` until None before the next feed keeps memory flat."""
        if self._phase == _FAILED:
            raise Malformed("the framer has failed before and takes no more bytes")
        self._append_bytes(data)

    def next(self) -> tuple | None:
        """The next event, or None when it needs more bytes. After an error every call raises.

        Events:
            ("version", "REDIS" or "VALKEY", number)
            ("aux", name, value)
            ("function", code): a library.
            ("db", number): drain all shards before the next call; what follows belongs to this database.
            ("resize", keys, expires): what the database is said to hold.
            ("full",): some shard has more than 256 KB to be drained; told again with each entry until then.
            ("huge", key, expire_ms or -1, type, shard), then ("part", bytes) of at most 1 MB each, which are the
                serialized value without its type byte, then ("huge_end", bytes in all). Of type 243 are values with
                key metadata before them, as DUMP puts them: metadata, type byte, value.
            ("end", checksum): drain all shards; `rest` has what follows.

        Raises:
            Malformed: the bytes do not follow the format, or the checksum does not match; with the offset.
            UnsupportedType: an unknown version, type or opcode, or a key, aux field or function above the limit.
        """
        if self._phase == _FAILED:
            raise Malformed("the framer has failed before", self._base + self._pos)
        good = False
        try:
            event = self._step()
            good = True
        finally:
            if not good:
                self._phase = _FAILED
        return event

    @cython.cfunc
    def _inside(self) -> cython.bint:
        return self._phase in (_VALUE, _HUGE)

    @cython.cfunc
    @cython.exceptval(check=False)
    def _expands(self) -> cython.bint:
        """Whether a string at _head is a compressed one, of more than the limit: to expand it in one go would keep the
        target busy."""
        p: cython.p_const_uchar = self._buf
        number: cython.ulonglong = self._number
        size: cython.int
        found: cython.bint = False
        if self._tail > self._head and p[self._head] == 195:
            size = self._length(p, self._head + 1, self._tail)
            if size and self._length(p, self._head + 1 + size, self._tail):
                found = self._number > cython.cast(cython.ulonglong, self._limit)
        self._number = number
        return found

    @cython.cfunc
    def _step(self) -> tuple | None:
        """Run until there is an event or the bytes end."""
        event: tuple | None
        kind: cython.int
        p: cython.p_const_uchar
        while True:
            if self._phase == _VALUE:
                self._done = self._walk() == 1
                if self._pos + self._skip - self._head > self._limit or (self._type == 0 and self._expands()):
                    kind = self._begin_parts()
                    self._phase = _HUGE
                    return ("huge", self.last_key, self._expire, kind, self._shard)
                if not self._done:
                    break
                if self._append() > FULL:
                    return ("full",)
            elif self._phase == _TOP:
                p = self._buf
                self._head = self._pos
                if self._pos >= self._tail:
                    break
                if p[self._pos] < _TEMPLATE:
                    self._take_type(p[self._pos])
                else:
                    event = self._opcode(p[self._pos])
                    if event is not None:
                        return event
                    if self._phase == _TOP and self._head == self._pos:
                        break
            elif self._phase == _KEY:
                if not self._read_key():
                    break
                self._head = self._pos
                self._phase = _VALUE
            elif self._phase == _HUGE:
                event = self._part()
                if event is not None and event[0] == "huge_end":
                    self._expire = -1
                    self._phase = _TOP
                return event
            elif self._phase == _HELD or self._phase == _META:
                self._done = self._walk() == 1
                if self._pos + self._skip - self._head > self._limit:
                    raise self._too_long()
                if not self._done or (self._phase == _META and self._pos >= self._tail):
                    break
                event = self._held()
                if event is not None:
                    return event
            elif self._phase == _DROP:
                self._done = self._walk() == 1
                self._head = self._pos
                if not self._done:
                    break
                self._phase = _TOP
            elif self._phase == _HEADER:
                return self._header()
            elif self._phase == _SUM:
                return self._checksum()
            else:
                return None
        self._sum()
        return None

    @cython.cfunc
    def _header(self) -> tuple | None:
        """Magic and version; they say which types and opcodes there are."""
        p: cython.p_uchar = self._buf
        if self._tail < 9:
            return None
        family, version, known = header(bytes(p[:9]))
        if not known:
            raise self._unknown(f"RDB version {family} {version}", 0)
        self._starts = starts(family, version)
        self._valkey = family == "VALKEY"
        self._checked = version >= 5
        self._pos = self._head = 9
        self._phase = _TOP
        return ("version", family, version)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _take_type(self, kind: cython.int) -> cython.int:
        if not self._begin(kind):
            raise self._unknown(f"value type {kind} ({name(kind)})", self._pos)
        self._type = kind
        self._pos += 1
        self._head = self._pos
        self._phase = _KEY
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _append(self) -> cython.Py_ssize_t:
        """The value is complete: append the entry to its shard; the bytes that now wait there."""
        shard: Shard = cython.cast(Shard, self._shards[self._shard])
        if (
            self._filter is not None
            and cython.cast(Filter, self._filter).takes_at(self._key, 0, self._klen) == 0
        ):
            self._before = b""
        elif self._expire < self._past and self._expire != -1:
            self._before = b""
            self.over += 1
        elif self._pos - self._head == 1 and self._type < 31 and self._is_empty():
            self._before = b""
        elif self._type >= _OF_LISTPACK or self._before:
            self._append_changed(shard)
        else:
            shard.append(self._expire, self._key, self._klen, self._type, self._buf, self._head, self._pos - self._head)
        self._expire = -1
        self._head = self._pos
        self._phase = _TOP
        return shard.size

    @cython.cfunc
    @cython.exceptval(check=False)
    def _is_empty(self) -> cython.bint:
        """Whether a value of one byte is a collection of nothing, which no server takes for a key: a replica passes
        over it."""
        p: cython.p_const_uchar = self._buf
        return p[self._head] == 0 and (_COLLECTIONS >> self._type) & 1 == 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _append_changed(self, shard: Shard) -> cython.int:
        """Append what cannot travel as it stands: a hash of a template becomes a plain one, metadata go before."""
        data: cython.p_uchar = self._buf
        value = bytes(data[self._head : self._pos])
        kind: cython.int = self._type
        where: cython.longlong = self._base + self._head
        if kind == _OF_LISTPACK:
            self._string(self._buf, self._head, self._pos)
            self._skip = 0
            if data[self._head] == 195 and self._number > cython.cast(cython.ulonglong, self._limit):
                raise self._unknown(f"a hash of a template in a listpack of over {self._limit} bytes", self._head)
            value = self._templates.of_listpack(self._text(self._buf, self._head, self._pos), where)
            kind = _HASH
        elif kind == _OF_ARRAY:
            value = self._templates.of_array(value, where)
            kind = _HASH
        if self._before:
            value = self._before + bytes([kind]) + value
            kind = _KEY_META
            self._before = b""
        shard.append(self._expire, self._key, self._klen, kind, value, 0, len(value))
        return 0

    @cython.cfunc
    def _too_long(self) -> object:
        p: cython.p_const_uchar = self._buf
        kind: cython.int = p[self._head]
        what = {_TEMPLATE: "a hash template", _KEY_META: "metadata of a key"}.get(kind, "an aux field or function")
        return self._unknown(f"{what} of over {self._limit} bytes", self._head)

    @cython.cfunc
    def _held(self) -> tuple | None:
        """An aux field, function or template that is all there, or metadata of a key and what follows them."""
        p: cython.p_uchar = self._buf
        kind: cython.int = p[self._head]
        record = bytes(p[self._head + 1 : self._pos])
        self._phase = _TOP
        if kind == _TEMPLATE:
            self._templates.add(record, self._base + self._head)
            return None
        if kind == _KEY_META:
            after = p[self._pos]
            if after >= _TEMPLATE:
                raise self._bad("metadata are of no key", self._head)
            if after in TIMED_HASHES:
                raise self._unknown("metadata of a hash whose fields expire", self._head)
            self._before = record
            return None
        first = self._text(self._buf, self._head + 1, self._tail)
        second = self._text(self._buf, self._number, self._tail) if kind == 250 else None
        return ("function", first) if kind == 245 else ("aux", first, second)

    @cython.cfunc
    def _opcode(self, op: cython.int) -> tuple | None:
        """Act on an opcode at _pos; leaves _pos and the phase as they are when more bytes are needed."""
        p: cython.p_const_uchar = self._buf
        left: cython.Py_ssize_t = self._tail - self._pos
        size: cython.int
        more: cython.int
        value: cython.ulonglong
        if op == 252 or op == 253:
            size = 8 if op == 252 else 4
            if left > size:
                self._expire = load_signed(p, self._pos + 1, size) * (1 if op == 252 else 1000)
                self._pos += size + 1
            return None
        if op == 249:
            if left > 1:
                self._pos += 2
            return None
        if op == 254:
            size = self._length(p, self._pos + 1, self._tail)
            if size == 0:
                return None
            if self._number > 0x7FFFFFFF:
                raise self._bad("a database has an impossible number", self._pos)
            self._pos += size + 1
            self.db = self._number
            return ("db", self.db)
        if op == 251:
            size = self._length(p, self._pos + 1, self._tail)
            value = self._number
            more = self._length(p, self._pos + 1 + size, self._tail) if size else 0
            if more == 0:
                return None
            self._pos += 1 + size + more
            return ("resize", value, self._number)
        if op == 255:
            self._pos += 1
            self._phase = _SUM
            return None
        if not self._begin(op):
            raise self._unknown(f"opcode {op} ({name(op)})", self._pos)
        if op == 250 or op == 245 or op == _TEMPLATE:
            self._phase = _HELD
        elif op == _KEY_META and not self._valkey:
            self._phase = _META
        else:
            self._phase = _DROP
        self._pos += 1
        return None

    @cython.cfunc
    def _checksum(self) -> tuple | None:
        """After the last opcode: eight bytes of checksum from version 5 on; 0 means that none was made."""
        p: cython.p_uchar = self._buf
        stored: object = 0
        self._sum()
        if self._checked:
            if self._tail - self._pos < 8:
                return None
            stored = int.from_bytes(p[self._pos : self._pos + 8], "little")
            if stored and stored != self._crc:
                raise self._bad("the checksum of the RDB does not match its bytes", self._pos)
            self._pos += 8
        self._head = self._pos
        self._phase = _END
        return ("end", stored)
