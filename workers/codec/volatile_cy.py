"""Which keys of a chunk file have an expiry of their own or of their fields."""

import cython

from sync_tasks.errors import Malformed

HEAD = 16  # bytes before the key: expiry, key length, value length
FIRST_TIMED = cython.declare(cython.int, 22)  # the types of hashes with field expiry, of both families
LAST_TIMED = cython.declare(cython.int, 25)


@cython.cfunc
@cython.inline
def _u32(data: cython.p_const_uchar, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    return data[at] | (data[at + 1] << 8) | (data[at + 2] << 16) | (cython.cast(cython.Py_ssize_t, data[at + 3]) << 24)


def stripped(buf: bytes) -> bytes:
    """The records of `buf`, their values cut to the first byte, which tells the type: who asks for keys alone, or for
    those that are `volatile`, is answered as before. Raises as `volatile`.
    """
    data: cython.p_const_uchar = buf
    end: cython.Py_ssize_t = len(buf)
    pos: cython.Py_ssize_t = 0
    after: cython.Py_ssize_t
    key: cython.Py_ssize_t
    found: list = []
    while pos < end:
        if pos + HEAD > end:
            raise Malformed("a chunk ends inside a record", pos)
        key = pos + HEAD + _u32(data, pos + 8)
        after = key + _u32(data, pos + 12)
        if after > end or key >= end:
            raise Malformed("a chunk ends inside a record", pos)
        found.append(buf[pos : pos + 12])
        found.append(b"\x01\x00\x00\x00")
        found.append(buf[pos + HEAD : key + 1])
        pos = after
    return b"".join(found)


def volatile(buf: bytes) -> list:
    """Keys of the records of `buf` whose expiry is set, or whose value is a hash with field expiry.

    The format is workers.spool.chunks'. Raises Malformed with the offset of a record that is cut short.
    """
    data: cython.p_const_uchar = buf
    end: cython.Py_ssize_t = len(buf)
    pos: cython.Py_ssize_t = 0
    after: cython.Py_ssize_t
    key: cython.Py_ssize_t
    found: list = []
    while pos < end:
        if pos + HEAD > end:
            raise Malformed("a chunk ends inside a record", pos)
        key = pos + HEAD + _u32(data, pos + 8)
        after = key + _u32(data, pos + 12)
        if after > end or key >= end:
            raise Malformed("a chunk ends inside a record", pos)
        if data[pos + 7] < 128 or FIRST_TIMED <= data[key] <= LAST_TIMED:
            found.append(buf[pos + HEAD : key])
        pos = after
    return found
