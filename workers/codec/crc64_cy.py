"""CRC-64 as Redis computes it (Jones polynomial, reflected, no inversion), eight bytes a step.

Source: Redis src/crc64.c; check value crc64(b"123456789") == 0xe9c6d914c4b8d9ca.
"""

from __future__ import annotations

import cython

POLYNOMIAL = 0x95AC9329AC4BC9B5
"""0xad93d23594c935a9 with its bits reversed."""

_table = cython.declare(cython.ulonglong[2048])
if not cython.compiled:
    _table = [0] * 2048


@cython.cfunc
def _fill() -> cython.void:
    """Row k of the table advances a byte's remainder over k further bytes of zero."""
    i: cython.int
    k: cython.int
    _bit: cython.int
    value: cython.ulonglong
    poly: cython.ulonglong = POLYNOMIAL
    for i in range(256):
        value = i
        for _bit in range(8):
            value = (value >> 1) ^ poly if value & 1 else value >> 1
        _table[i] = value
    for k in range(1, 8):
        for i in range(256):
            value = _table[(k - 1) * 256 + i]
            _table[k * 256 + i] = _table[value & 0xFF] ^ (value >> 8)


_fill()


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
@cython.boundscheck(False)
def crc_bytes(
    p: cython.p_const_uchar, start: cython.Py_ssize_t, end: cython.Py_ssize_t, crc: cython.ulonglong
) -> cython.ulonglong:
    """The CRC of p[start:end] added to `crc`. The caller answers for the bounds."""
    i: cython.Py_ssize_t = start
    while end - i >= 8:
        crc = (
            _table[1792 + ((crc ^ p[i]) & 0xFF)]
            ^ _table[1536 + (((crc >> 8) ^ p[i + 1]) & 0xFF)]
            ^ _table[1280 + (((crc >> 16) ^ p[i + 2]) & 0xFF)]
            ^ _table[1024 + (((crc >> 24) ^ p[i + 3]) & 0xFF)]
            ^ _table[768 + (((crc >> 32) ^ p[i + 4]) & 0xFF)]
            ^ _table[512 + (((crc >> 40) ^ p[i + 5]) & 0xFF)]
            ^ _table[256 + (((crc >> 48) ^ p[i + 6]) & 0xFF)]
            ^ _table[((crc >> 56) ^ p[i + 7]) & 0xFF]
        )
        i += 8
    while i < end:
        crc = _table[(crc ^ p[i]) & 0xFF] ^ (crc >> 8)
        i += 1
    return crc


def crc64(data: bytes | bytearray | memoryview, crc: cython.ulonglong = 0) -> int:
    """The CRC of `data`, going on from `crc` (0 at the start); releases the GIL."""
    if cython.compiled:
        view: cython.const[cython.uchar][::1] = data
        size: cython.Py_ssize_t = view.shape[0]
        result: cython.ulonglong = crc
        if size:
            with cython.nogil:
                result = crc_bytes(cython.address(view[0]), 0, size, crc)
        return result
    raw = bytes(data)
    return crc_bytes(raw, 0, len(raw), crc)
