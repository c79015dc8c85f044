"""Chunk records that wait to be written to a chunk file.

A record is `<qII` expire_ms (-1: none), key length, value length; then the key; then the type byte and the
value as it stood in the RDB.
"""

from __future__ import annotations

import cython

if cython.compiled:
    from cython.cimports.workers.codec.raw_cy import copy, store
else:
    from workers.codec.raw_cy import copy, store

KEEP = cython.declare(cython.Py_ssize_t, 1 << 20)  # bytes: a buffer grown past this is let go when drained


@cython.final
@cython.cclass
class Shard:
    """The waiting records of one shard."""

    def __init__(self) -> None:
        self.buf = bytearray()
        self.size = 0
        self.keys = 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def append(
        self,
        expire: cython.longlong,
        key: cython.p_const_uchar,
        klen: cython.Py_ssize_t,
        kind: cython.int,
        src: cython.p_const_uchar,
        start: cython.Py_ssize_t,
        size: cython.Py_ssize_t,
    ) -> cython.int:
        """Append a record: key[:klen], type `kind`, value src[start:start + size]."""
        have: cython.Py_ssize_t = len(self.buf)
        more: cython.Py_ssize_t = self.size + 17 + klen + size - have
        at: cython.Py_ssize_t = self.size
        if more > 0:
            self.buf += bytes(max(have, more))
        out: cython.p_uchar = self.buf
        at = store(out, at, cython.cast(cython.ulonglong, expire), 8)
        at = store(out, at, klen, 4)
        at = store(out, at, size + 1, 4)
        at = copy(out, at, key, 0, klen)
        out[at] = kind
        self.size = copy(out, at + 1, src, start, size)
        self.keys += 1
        return 0

    @cython.cfunc
    def drain(self) -> tuple:
        """The records and their number; empties the buffer."""
        data: cython.p_uchar = self.buf
        result = (bytes(data[: self.size]), self.keys)
        self.size = 0
        self.keys = 0
        if len(self.buf) > KEEP:
            self.buf = bytearray()
        return result
