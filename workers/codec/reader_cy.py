"""Reads a value as it stands in an RDB, in blocks: lengths, strings, numbers.

Source of the encodings: Redis and Valkey src/rdb.c, rdbLoadLen and rdbGenericLoadStringObject.
"""

from __future__ import annotations

from collections.abc import Callable

import cython

from sync_tasks.errors import Malformed
from workers.codec.lzf_cy import decompress

BLOCK = 256 << 10
"""Bytes asked of `read` at a time."""


@cython.final
@cython.cclass
class Reader:
    """Reads from `read` in blocks. A shortage is Malformed; memory is taken only for bytes that are there.

    Args:
        read: called with n > 0; returns 1 to n bytes of the serialized value (it begins after the type byte), and b""
            at its end.
    """

    _read: object
    _block: bytes
    _pos: cython.Py_ssize_t
    _before: cython.longlong

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._block = b""
        self._pos = 0
        self._before = 0

    @property
    def offset(self) -> int:
        """Bytes of the value consumed."""
        return self._before + self._pos

    @cython.ccall
    def take(self, size: cython.longlong) -> bytes:
        """The next `size` bytes."""
        left: cython.longlong = size
        if len(self._block) - self._pos >= left:
            self._pos += left
            return self._block[self._pos - left : self._pos]
        parts: list = []
        while left:
            if self._pos == len(self._block):
                self._before += self._pos
                self._pos = 0
                self._block = self._read(BLOCK)
                if not self._block:
                    raise Malformed("a value ends too early", self._before)
            part = self._block[self._pos : self._pos + left]
            self._pos += len(part)
            left -= len(part)
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Malformed if bytes follow the value."""
        if self._pos < len(self._block) or self._read(1):
            raise Malformed("bytes follow a value", self.offset)

    @cython.ccall
    def head(self) -> tuple:
        """Head of a string as (kind, size): 0 raw, 1, 2 or 4 an integer, 3 compressed and its length next."""
        first: cython.int = self.take(1)[0]
        if first < 192:
            return 0, self._possible(self._number(first))
        if first > 195:
            raise Malformed("a string has an unknown encoding", self.offset - 1)
        if first == 195:
            return 3, self.length()
        return 1 << (first - 192), 0

    @cython.ccall
    def length(self) -> object:
        """A length."""
        return self._possible(self.number())

    @cython.ccall
    def number(self) -> object:
        """A number of up to 64 bits that stands as a length."""
        return self._number(self.take(1)[0])

    @cython.cfunc
    def _possible(self, size: object) -> object:
        if size >= 1 << 62:
            raise Malformed("a length is impossible", self.offset)
        return size

    @cython.cfunc
    def _number(self, first: cython.int) -> object:
        """The rest of a length that begins with the byte `first`."""
        if first < 64:
            return first
        if first < 128:
            return ((first & 63) << 8) | self.take(1)[0]
        if first > 129:
            raise Malformed("a length has an unknown form", self.offset - 1)
        return int.from_bytes(self.take(4 if first == 128 else 8), "big")

    def integer(self, size: int) -> bytes:
        """An integer of `size` bytes as text."""
        return b"%d" % int.from_bytes(self.take(size), "little", signed=True)

    @cython.ccall
    def string(self) -> bytes:
        """A string."""
        kind, size = self.head()
        if kind == 0:
            return self.take(size)
        if kind != 3:
            return self.integer(kind)
        wide = self.length()
        packed = self.take(size)
        try:
            return decompress(packed, wide)
        except Malformed as e:
            raise Malformed(e.message, self.offset) from None
