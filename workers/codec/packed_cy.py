"""Entries of the packed containers: ziplist, listpack, intset, zipmap.

Sources: Redis src/ziplist.c, listpack.c, intset.c and (up to 2.6) zipmap.c. Each function takes the container
and, for errors, where it ends in the value; it checks every step against the end and yields entries as text.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from

import cython

from sync_tasks.errors import Malformed


def _integer(blob: bytes, start: int, size: int) -> bytes:
    return b"%d" % int.from_bytes(blob[start : start + size], "little", signed=True)


def ziplist(blob: bytes, offset: int) -> Iterator[bytes]:
    """Entries of a ziplist. An entry: length of the one before (1 or 5 bytes), encoding, bytes."""
    p: cython.p_const_uchar = blob
    end: cython.Py_ssize_t = len(blob) - 1
    i: cython.Py_ssize_t = 10
    size: cython.longlong
    code: cython.int
    if end < 10 or p[end] != 255:
        raise Malformed("a ziplist has no end before", offset)
    while i < end:
        i += 1 if p[i] < 254 else 5
        # The longest encoding has five bytes; `end` stands for a byte that none of them may pass.
        if i + (1, 2, 5, 1)[p[i] >> 6 if i < end else 3] > end:
            raise Malformed("a ziplist entry passes its end before", offset)
        code = p[i]
        if code < 192:
            if code < 64:
                size = code
                i += 1
            elif code < 128:
                size = ((code & 63) << 8) | p[i + 1]
                i += 2
            else:
                size = int.from_bytes(blob[i + 1 : i + 5], "big")
                i += 5
            if size > end - i:
                raise Malformed("a ziplist entry passes its end before", offset)
            yield blob[i : i + size]
        elif 0xF1 <= code <= 0xFD:
            size = 0
            i += 1
            yield b"%d" % (code - 0xF1)
        else:
            size = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}.get(code, 0)
            i += 1
            if size == 0 or size > end - i:
                raise Malformed("a ziplist entry is malformed before", offset)
            yield _integer(blob, i, size)
        i += size
    if i != end:
        raise Malformed("a ziplist entry passes its end before", offset)


def listpack(blob: bytes, offset: int) -> Iterator[bytes]:
    """Entries of a listpack. An entry is its encoding, its bytes, and the length of both (1 to 5 bytes)."""
    p: cython.p_const_uchar = blob
    end: cython.Py_ssize_t = len(blob) - 1
    i: cython.Py_ssize_t = 6
    start: cython.Py_ssize_t
    size: cython.longlong
    code: cython.int
    if end < 6 or p[end] != 255:
        raise Malformed("a listpack has no end before", offset)
    while i < end:
        start = i
        code = p[i]
        entry: bytes | None = None
        if code < 128:
            size = 0
            i += 1
            entry = b"%d" % code
        elif code < 192:
            size = code & 63
            i += 1
        elif code < 224:
            size = 1
            i += 1
            if i < end:
                size = ((code & 31) << 8) | p[i]
                entry = b"%d" % (size - 8192 if size & 4096 else size)
                size = 1
        elif code < 240:
            size = ((code & 15) << 8) | p[i + 1]
            i += 2
        elif code == 240:
            size = int.from_bytes(blob[i + 1 : i + 5], "little")
            i += 5
        elif code < 245:
            size = (2, 3, 4, 8)[code - 241]
            i += 1
            entry = _integer(blob, i, size)
        else:
            raise Malformed("a listpack entry is malformed before", offset)
        if size > end - i:
            raise Malformed("a listpack entry passes its end before", offset)
        yield entry if entry is not None else blob[i : i + size]
        i += size
        size = i - start
        i += 1 if size < 128 else 2 if size < 16383 else 3 if size < 2097151 else 4 if size < 268435455 else 5
    if i != end:
        raise Malformed("a listpack entry passes its end before", offset)


def intset(blob: bytes, offset: int) -> Iterator[bytes]:
    """Members of an intset: width, count (four bytes each), then the integers."""
    i: cython.Py_ssize_t
    if len(blob) < 8:
        raise Malformed("an intset is too short before", offset)
    width, count = unpack_from("<II", blob)
    if width not in (2, 4, 8) or len(blob) != 8 + width * count:
        raise Malformed("an intset is malformed before", offset)
    for i in range(8, len(blob), width):
        yield _integer(blob, i, width)


def zipmap(blob: bytes, offset: int) -> Iterator[bytes]:
    """Keys and values of a zipmap, each after its length (1 or 5 bytes), a value also after a free count."""
    p: cython.p_const_uchar = blob
    end: cython.Py_ssize_t = len(blob) - 1
    i: cython.Py_ssize_t = 1
    free: cython.Py_ssize_t
    size: cython.longlong
    value: cython.bint = False
    if end < 1 or p[end] != 255:
        raise Malformed("a zipmap has no end before", offset)
    while i < end:
        if i + (5 if p[i] == 254 else 1) + value > end or p[i] == 255:
            raise Malformed("a zipmap entry passes its end before", offset)
        if p[i] == 254:
            size = int.from_bytes(blob[i + 1 : i + 5], "little")
            i += 5
        else:
            size = p[i]
            i += 1
        free = 0
        if value:
            free = p[i]
            i += 1
        if size + free > end - i:
            raise Malformed("a zipmap entry passes its end before", offset)
        yield blob[i : i + size]
        i += size + free
        value = not value
