"""Hash slots of Redis Cluster: CRC16 (XMODEM) of the key, or of its hash tag, modulo 16384.

Source: Redis Cluster specification, appendix A, and Redis src/cluster.c keyHashSlot.
"""

from __future__ import annotations

import cython

SLOTS = 16384

_table = cython.declare(cython.ushort[256])
if not cython.compiled:
    _table = [0] * 256


@cython.cfunc
def _fill() -> cython.void:
    i: cython.int
    _bit: cython.int
    value: cython.uint
    for i in range(256):
        value = i << 8
        for _bit in range(8):
            value = ((value << 1) ^ 0x1021) & 0xFFFF if value & 0x8000 else (value << 1) & 0xFFFF
        _table[i] = value


_fill()


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def slot_bytes(p: cython.p_const_uchar, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
    """Slot of the key p[start:end]. Its tag stands between the first { and the next }, if not empty."""
    i: cython.Py_ssize_t = start
    close: cython.Py_ssize_t
    crc: cython.uint = 0
    while i < end and p[i] != 123:
        i += 1
    if i < end:
        close = i + 1
        while close < end and p[close] != 125:
            close += 1
        if close < end and close > i + 1:
            start = i + 1
            end = close
    for i in range(start, end):
        crc = ((crc << 8) & 0xFFFF) ^ _table[((crc >> 8) ^ p[i]) & 0xFF]
    return crc & 16383


def slot(key: bytes) -> int:
    """Slot 0..16383 of a key."""
    return slot_bytes(key, 0, len(key))


def shard(key: bytes, shards: cython.int) -> int:
    """Which of `shards` equal ranges of slots a key belongs to."""
    return (slot_bytes(key, 0, len(key)) * shards) >> 14
