"""Reading and writing of raw bytes, for the compiled modules. No function checks more than it says it does.

Source of the forms of lengths and strings: Redis src/rdb.h, rdbLoadLenByRef and rdbGenericLoadStringObject.
"""

from __future__ import annotations

import cython

if cython.compiled:
    from cython.cimports.libc.string import memcpy


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def copy(
    dst: cython.p_uchar,
    at: cython.Py_ssize_t,
    src: cython.p_const_uchar,
    start: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """dst[at:at + size] = src[start:start + size]; where it ends. The caller answers for the bounds."""
    if cython.compiled:
        memcpy(dst + at, src + start, size)
    else:
        dst[at : at + size] = src[start : start + size]
    return at + size


@cython.cfunc
@cython.nogil
@cython.cdivision(True)
@cython.exceptval(check=False)
def digits(value: cython.longlong) -> cython.int:
    """Bytes that a value above -2**63 takes in decimal."""
    size: cython.int = 1
    if value < 0:
        size = 2
        value = -value
    while value >= 10:
        value //= 10
        size += 1
    return size


@cython.cfunc
@cython.nogil
@cython.cdivision(True)
@cython.exceptval(check=False)
def decimal(dst: cython.p_uchar, at: cython.Py_ssize_t, value: cython.longlong, end: cython.bint) -> cython.Py_ssize_t:
    """Write `value`, above -2**63, in decimal, and with `end` a line end; where it ends. At most 22 bytes."""
    size: cython.int = digits(value)
    i: cython.int
    if value < 0:
        dst[at] = 45
        at += 1
        size -= 1
        value = -value
    for i in range(size):
        dst[at + size - 1 - i] = 48 + value % 10
        value //= 10
    at += size
    if end:
        dst[at] = 13
        dst[at + 1] = 10
        at += 2
    return at


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def load(p: cython.p_const_uchar, pos: cython.Py_ssize_t, size: cython.int) -> cython.ulonglong:
    """Little-endian integer of `size` bytes."""
    value: cython.ulonglong = 0
    i: cython.int
    for i in range(size):
        value |= cython.cast(cython.ulonglong, p[pos + i]) << (8 * i)
    return value


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def load_signed(p: cython.p_const_uchar, pos: cython.Py_ssize_t, size: cython.int) -> cython.longlong:
    """Little-endian integer of `size` bytes in two's complement."""
    value: cython.ulonglong = load(p, pos, size)
    if not cython.compiled:
        return value - (1 << (8 * size)) if value >> (8 * size - 1) else value
    return cython.cast(cython.longlong, value << (64 - 8 * size)) >> (64 - 8 * size)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def head_size(p: cython.p_const_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Bytes that the length at `pos` takes; -1 if it is malformed or passes `end`."""
    size: cython.Py_ssize_t
    if pos >= end or p[pos] > 129:
        return -1
    size = 1 if p[pos] < 64 else 2 if p[pos] < 128 else 5 if p[pos] == 128 else 9
    return size if size <= end - pos else -1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def length(p: cython.p_const_uchar, pos: cython.Py_ssize_t, size: cython.Py_ssize_t) -> cython.ulonglong:
    """The length at `pos`, known to take `size` bytes."""
    value: cython.ulonglong = 0
    i: cython.Py_ssize_t
    if size < 3:
        return p[pos] if size == 1 else ((p[pos] & 63) << 8) | p[pos + 1]
    for i in range(1, size):
        value = (value << 8) | p[pos + i]
    return value


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def string_end(p: cython.p_const_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """End of the string at `pos`; -1 if it is malformed or passes `end`."""
    n: cython.ulonglong
    size: cython.Py_ssize_t
    more: cython.Py_ssize_t = 0
    lzf: cython.Py_ssize_t = 0
    if pos < end and p[pos] >= 192:
        if p[pos] < 195:
            pos += 1 + (1 << (p[pos] - 192))
            return pos if pos <= end else -1
        if p[pos] > 195:
            return -1
        lzf = 1
    size = head_size(p, pos + lzf, end)
    if size < 0:
        return -1
    n = length(p, pos + lzf, size)
    if lzf:
        more = head_size(p, pos + 1 + size, end)
        if more < 0:
            return -1
    pos += lzf + size + more
    if n > cython.cast(cython.ulonglong, end - pos):
        return -1
    return pos + cython.cast(cython.Py_ssize_t, n)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def store(dst: cython.p_uchar, at: cython.Py_ssize_t, value: cython.ulonglong, size: cython.int) -> cython.Py_ssize_t:
    """Write `size` bytes, little endian; where they end. The caller answers for the bounds."""
    i: cython.int
    for i in range(size):
        dst[at + i] = (value >> (8 * i)) & 0xFF
    return at + size
