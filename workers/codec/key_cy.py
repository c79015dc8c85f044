"""The key of the entry that is being read, and the shard that it goes to; errors name it.

Source: Redis and Valkey src/rdb.c (rdbGenericLoadStringObject).
"""

from __future__ import annotations

import cython

from sync_tasks.errors import UnsupportedType
from workers.codec.programs import INSTEAD
from workers.codec.slots_cy import slot

if cython.compiled:
    from cython.cimports.workers.codec.raw_cy import copy
    from cython.cimports.workers.codec.slots_cy import slot_bytes
    from cython.cimports.workers.codec.walk_cy import Walker
else:
    from workers.codec.raw_cy import copy
    from workers.codec.walk_cy import Walker


@cython.cclass
class Keyed(Walker):
    """A walker that knows the key it is at, and its shard of `shards`."""

    def __init__(self, shards: int) -> None:
        Walker.__init__(self)
        self.shards = shards
        self._shard = 0
        self._table = b""  # shard of each slot; empty: equal ranges of slots
        self._key = bytearray(64)
        self._klen = 0

    @property
    def last_key(self) -> bytes:
        """The key read last; its value may not be complete."""
        key: cython.p_uchar = self._key
        return bytes(key[: self._klen])

    @cython.cfunc
    def _inside(self) -> cython.bint:
        """Whether we are in the key's value, not after it."""
        return False

    @cython.cfunc
    def _where(self) -> str:
        """Where an error stands, for a person."""
        if not self._klen:
            return ""
        return f" {'in' if self._inside() else 'after'} key {self.last_key[:64]!r}"

    @cython.cfunc
    def _unknown(self, what: str, pos: cython.Py_ssize_t) -> object:
        """The error for something that this version cannot carry."""
        return UnsupportedType(f"{what} is not supported{self._where()}", self._base + pos, hint=INSTEAD)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _read_key(self) -> cython.int:
        """Read the key at _pos, pass it, and find its shard; 0 when it is not all there."""
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
            self._shard = self._shard_of(slot_bytes(self._key, 0, self._klen))
        else:
            self._shard = self._shard_of(slot(self.last_key))
        return 1

    @cython.cfunc
    @cython.exceptval(check=False)
    def _shard_of(self, slot_number: cython.int) -> cython.int:
        table: cython.p_const_uchar = self._table
        return table[slot_number] if len(self._table) == 16384 else (slot_number * self.shards) >> 14
