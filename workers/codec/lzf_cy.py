"""LZF decompression, at once and in pieces.

Source: liblzf's format as in Redis src/lzf_d.c. A control byte c < 32 announces c + 1 literal bytes; else a
copy of (c >> 5) + 2 bytes (7: an extra length byte follows) from a distance of 1 to 8192 bytes back.
"""

from __future__ import annotations

import cython

from sync_tasks.errors import Malformed

WINDOW = 8192
"""Bytes: how far back a copy may reach."""
EXPANDS = 132
"""So many bytes one can stand for, at most."""


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def lzf_into(
    src: cython.p_const_uchar,
    i: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    dst: cython.p_uchar,
    at: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Decompress src[i:end] into dst[at:at + size], which must exist; -1 unless it fills exactly that."""
    out: cython.Py_ssize_t = at
    stop: cython.Py_ssize_t = at + size
    c: cython.Py_ssize_t
    ref: cython.Py_ssize_t
    n: cython.Py_ssize_t
    while i < end:
        c = src[i]
        i += 1
        if c < 32:
            n = c + 1
            if n > end - i or n > stop - out:
                return -1
            for c in range(n):
                dst[out + c] = src[i + c]
            i += n
            out += n
            continue
        n = c >> 5
        if n == 7:
            if i >= end:
                return -1
            n += src[i]
            i += 1
        if i >= end:
            return -1
        ref = out - (((c & 31) << 8) | src[i]) - 1
        i += 1
        n += 2
        if ref < at or n > stop - out:
            return -1
        for c in range(n):
            dst[out + c] = dst[ref + c]
        out += n
    return size if out == stop else -1


def decompress(data: bytes, size: cython.Py_ssize_t) -> bytes:
    """`data` decompressed to exactly `size` bytes, else Malformed."""
    if size < 0 or size > EXPANDS * len(data):
        raise Malformed("a compressed string states an impossible length")
    out = bytearray(size)
    if lzf_into(data, 0, len(data), out, 0, size) < 0:
        raise Malformed("a compressed string does not decompress to its stated length")
    return bytes(out)


@cython.cclass
class Expander:
    """Decompression of one long string: `feed` compressed bytes, `take` what comes out, in bounded memory.

    Args:
        size: stated length of the result in bytes.
        piece: the most that one `take` returns, in bytes, exceeded by less than one copy (264).
    """

    _pending: bytes
    _buffer: bytearray
    _at: cython.Py_ssize_t  # end of what has been decompressed into the buffer
    _used: cython.Py_ssize_t  # bytes of `_pending` already read
    _left: cython.longlong  # bytes of the result still to come
    _room: cython.Py_ssize_t

    def __init__(self, size: cython.longlong, piece: cython.Py_ssize_t = 1 << 20) -> None:
        self._pending = b""
        self._buffer = bytearray(WINDOW + piece + 264)
        self._at = 0
        self._used = 0
        self._left = size
        self._room = piece

    def feed(self, data: bytes) -> None:
        """More compressed bytes. Call `take` until it returns nothing before feeding again."""
        self._pending = self._pending[self._used :] + data
        self._used = 0

    def take(self) -> bytes:
        """The next decompressed bytes, none when more input is needed; Malformed past the stated length."""
        start = self._at
        self._expand(start + self._room)
        fresh = bytes(self._buffer[start : self._at])
        self._left -= len(fresh)
        if self._left < 0:
            raise Malformed("a compressed string is longer than its stated length")
        if self._at > WINDOW:
            self._buffer[:WINDOW] = self._buffer[self._at - WINDOW : self._at]
            self._at = WINDOW
        return fresh

    def close(self) -> None:
        """Malformed unless the whole string came out and no input is left over."""
        if self._left or self._used != len(self._pending):
            raise Malformed("a compressed string does not decompress to its stated length")

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _expand(self, stop: cython.Py_ssize_t) -> cython.int:
        """Run whole instructions until `stop` is reached or the input ends inside one."""
        src: cython.p_const_uchar = self._pending
        dst: cython.p_uchar = self._buffer
        i: cython.Py_ssize_t = self._used
        end: cython.Py_ssize_t = len(self._pending)
        out: cython.Py_ssize_t = self._at
        c: cython.Py_ssize_t
        n: cython.Py_ssize_t
        ref: cython.Py_ssize_t
        while i < end and out < stop:
            c = src[i]
            if c < 32:
                if end - i < c + 2:
                    break
                for n in range(c + 1):
                    dst[out + n] = src[i + 1 + n]
                i += c + 2
                out += c + 1
                continue
            n = c >> 5
            if end - i < (3 if n == 7 else 2):
                break
            i += 1
            if n == 7:
                n += src[i]
                i += 1
            n += 2
            ref = out - (((c & 31) << 8) | src[i]) - 1
            i += 1
            if ref < 0:
                raise Malformed("a compressed string refers to before its start")
            for c in range(n):
                dst[out + c] = dst[ref + c]
            out += n
        self._used = i
        self._at = out
        return 0
