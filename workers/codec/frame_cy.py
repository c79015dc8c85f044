"""Frames an RDB as it arrives: finds each entry's extent and sorts the entries, unread, into shards.

Source: Redis and Valkey src/rdb.c (rdbLoadRioWithLoadingCtx) and rdb.h.
"""

from __future__ import annotations

import cython

from sync_tasks.errors import Malformed, UnsupportedType
from workers.codec.slots_cy import slot
from workers.codec.walk_cy import CHECK

if cython.compiled:
    from cython.cimports.workers.codec.raw_cy import copy, load_signed
    from cython.cimports.workers.codec.shard_cy import Shard
    from cython.cimports.workers.codec.slots_cy import slot_bytes
    from cython.cimports.workers.codec.walk_cy import Walker
else:
    from workers.codec.raw_cy import copy, load_signed
    from workers.codec.shard_cy import Shard
    from workers.codec.walk_cy import Walker

FULL = 256 << 10
"""Bytes in a shard's buffer from which `full` is reported."""
PART = 1 << 20
"""Bytes: the most that one `part` of a huge value holds."""

HASH_WITH_TTL = 22
REDIS_VERSIONS = range(1, 13)
VALKEY_VERSIONS = range(80, 82)

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


@cython.final
@cython.cclass
class Framer(Walker):
    """`feed` bytes of an RDB, `next` until None; entries gather in the shards' buffers as chunk records.

    Args:
        shards: number of ranges of slots, 1 to 16384.
        huge_bytes: a value longer than this is passed on in parts; a key, aux field or function may not be.
    """

    shards: cython.int
    db = cython.declare(cython.longlong, visibility="readonly")
    _phase: cython.int
    _valkey: cython.bint
    _version: cython.int
    _type: cython.int
    _expire: cython.longlong
    _shard: cython.int
    _shards: list
    _key: bytearray
    _klen: cython.Py_ssize_t
    _done: cython.bint
    _total: cython.longlong

    def __init__(self, shards: int, huge_bytes: int = 8 << 20) -> None:
        if not 1 <= shards <= 16384:
            raise ValueError("shards must be 1 to 16384")
        Walker.__init__(self)
        self.shards = shards
        self._shards = [Shard() for _ in range(shards)]
        self._limit = min(max(huge_bytes, 64), 1 << 30)
        self._key = bytearray(64)
        self._klen = self._total = 0
        self._phase = self._type = self._shard = self._version = 0
        self._valkey = self._done = False
        self._expire = -1
        self.db = 0

    @property
    def last_key(self) -> bytes:
        """The key read last; its value may not be complete."""
        key: cython.p_uchar = self._key
        return bytes(key[: self._klen])

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
                serialized value without its type byte, then ("huge_end", bytes in all).
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
    def _where(self) -> str:
        """Where an error stands, for a person."""
        if not self._klen:
            return ""
        return f" {'in' if self._phase in (_VALUE, _HUGE) else 'after'} key {self.last_key[:64]!r}"

    @cython.cfunc
    def _unknown(self, what: str, pos: cython.Py_ssize_t) -> object:
        """The error for something that this version cannot carry."""
        hint = "delete it on the source, or use a version of keyferry that knows it"
        return UnsupportedType(f"{what} is not supported{self._where()}", self._base + pos, hint=hint)

    @cython.cfunc
    def _step(self) -> tuple | None:
        """Run until there is an event or the bytes end."""
        event: tuple | None
        p: cython.p_const_uchar
        while True:
            if self._phase == _VALUE:
                self._done = self._walk() == 1
                if self._pos + self._skip - self._head > self._limit:
                    self._phase = _HUGE
                    self._total = 0
                    return ("huge", self.last_key, self._expire, self._type, self._shard)
                if not self._done:
                    break
                if self._append() > FULL:
                    return ("full",)
            elif self._phase == _TOP:
                p = self._buf
                self._head = self._pos
                if self._pos >= self._tail:
                    break
                if p[self._pos] < 242:
                    self._take_type(p[self._pos])
                else:
                    event = self._opcode(p[self._pos])
                    if event is not None:
                        return event
                    if self._phase == _TOP and self._head == self._pos:
                        break
            elif self._phase == _KEY:
                if not self._take_key():
                    break
            elif self._phase == _HUGE:
                return self._part()
            elif self._phase == _HELD:
                self._done = self._walk() == 1
                if self._pos + self._skip - self._head > self._limit:
                    raise self._unknown(f"an aux field or function of over {self._limit} bytes", self._head)
                if not self._done:
                    break
                return self._held()
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
        """Magic and version."""
        p: cython.p_uchar = self._buf
        if self._tail < 9:
            return None
        magic = bytes(p[:9])
        self._valkey = magic[:6] == b"VALKEY"
        digits = magic[6:] if self._valkey else magic[5:]
        if not (self._valkey or magic[:5] == b"REDIS") or not digits.isdigit():
            raise Malformed("this is not an RDB: it begins with neither REDIS nor VALKEY and a version", 0, hint=CHECK)
        self._version = int(digits)
        family = "VALKEY" if self._valkey else "REDIS"
        if self._version not in (VALKEY_VERSIONS if self._valkey else REDIS_VERSIONS):
            raise self._unknown(f"RDB version {family} {self._version}", 0)
        self._pos = self._head = 9
        self._phase = _TOP
        return ("version", family, self._version)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _take_type(self, kind: cython.int) -> cython.int:
        if not self._begin(kind) or (kind == HASH_WITH_TTL and not self._valkey):
            what = "modules of a pre-release server" if kind == 6 else "not known"
            raise self._unknown(f"value type {kind} ({what})", self._pos)
        self._type = kind
        self._pos += 1
        self._head = self._pos
        self._phase = _KEY
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _take_key(self) -> cython.int:
        """Read the key into _key; 0 when it is not all there."""
        p: cython.p_const_uchar = self._buf
        size: cython.int = self._string(p, self._pos, self._tail)
        n: cython.longlong = self._skip
        wide: cython.ulonglong
        self._skip = 0
        if size == 0:
            return 0
        wide = cython.cast(cython.ulonglong, self._limit)
        if n > self._limit or (p[self._pos] == 195 and self._number > wide):
            raise self._unknown(f"a key of over {self._limit} bytes", self._pos)
        if n > self._tail - self._pos - size:
            return 0
        if p[self._pos] < 192:
            if n > len(self._key):
                self._key = bytearray(n)
            copy(self._key, 0, p, self._pos + size, n)
            self._klen = n
            self._pos += size + n
        else:
            text = self._text(p, self._pos, self._tail)
            self._pos = self._number
            self._key = bytearray(text)
            self._klen = len(self._key)
        if self.shards == 1:
            self._shard = 0
        elif cython.compiled:
            self._shard = (slot_bytes(self._key, 0, self._klen) * self.shards) >> 14
        else:
            self._shard = (slot(self.last_key) * self.shards) >> 14
        self._head = self._pos
        self._phase = _VALUE
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _append(self) -> cython.Py_ssize_t:
        """The value is complete: append the entry to its shard; the bytes that now wait there."""
        shard: Shard = cython.cast(Shard, self._shards[self._shard])
        shard.append(self._expire, self._key, self._klen, self._type, self._buf, self._head, self._pos - self._head)
        self._expire = -1
        self._head = self._pos
        self._phase = _TOP
        return shard.size

    @cython.cfunc
    def _part(self) -> tuple | None:
        """The next part of a huge value, its end, or None; parts are not made small for want of bytes."""
        size: cython.Py_ssize_t = self._pos - self._head
        p: cython.p_uchar = self._buf
        if size < PART and not self._done:
            self._done = self._walk() == 1
            size = self._pos - self._head
        if size >= FULL or (self._done and size):
            size = min(size, PART)
            self._head += size
            self._total += size
            return ("part", bytes(p[self._head - size : self._head]))
        if not self._done:
            self._sum()
            return None
        self._phase = _TOP
        self._expire = -1
        return ("huge_end", self._total)

    @cython.cfunc
    def _held(self) -> tuple:
        """An aux field or a function that is all there."""
        p: cython.p_const_uchar = self._buf
        kind: cython.int = p[self._head]
        first = self._text(p, self._head + 1, self._tail)
        second = self._text(p, self._number, self._tail) if kind == 250 else None
        self._phase = _TOP
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
        if op == 250 or op == 245:
            self._phase = _HELD
        elif op == 248 or op == 247 or op == 244 or (op == 243 and self._valkey):
            self._phase = _DROP
        else:
            what = "functions of a pre-release server" if op == 246 else "not known"
            raise self._unknown(f"opcode {op} ({what})", self._pos)
        self._pos += 1
        self._begin(op)
        return None

    @cython.cfunc
    def _checksum(self) -> tuple | None:
        """After the last opcode: eight bytes of checksum from version 5 on; 0 means that none was made."""
        p: cython.p_uchar = self._buf
        stored: object = 0
        self._sum()
        if self._valkey or self._version >= 5:
            if self._tail - self._pos < 8:
                return None
            stored = int.from_bytes(p[self._pos : self._pos + 8], "little")
            if stored and stored != self._crc:
                raise self._bad("the checksum of the RDB does not match its bytes", self._pos)
            self._pos += 8
        self._head = self._pos
        self._phase = _END
        return ("end", stored)
