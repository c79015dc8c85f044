"""SETs that follow one another as one MSET, which a server takes in three quarters of the time.

Written in Cython's pure Python mode. What is packed does the same: SET without options and MSET both drop the key's
time, choose the value's encoding, and notify `set` for each key; of a key named twice the last value stays.
"""

import cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.workers.codec.raw_cy import copy, decimal, digits

HEAD = cython.declare(cython.int, 13)  # of *3 $3 SET, with their line ends
NAME: bytes = b"$4\r\nMSET\r\n"


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _is_set(buf: cython.p_const_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
    """Whether a SET of three arguments begins there; letters may be of either case."""
    return (
        end - pos > HEAD
        and buf[pos + 1] == 51
        and buf[pos + 2] == 13
        and buf[pos + 5] == 51
        and buf[pos + 6] == 13
        and (buf[pos + 8] & 223) == 83
        and (buf[pos + 9] & 223) == 69
        and (buf[pos + 10] & 223) == 84
    )


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _behind(buf: cython.p_const_uchar, pos: cython.Py_ssize_t, bulks: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Where so many bulk strings end."""
    size: cython.Py_ssize_t
    while bulks > 0:
        size = 0
        pos += 1
        while buf[pos] != 13:
            size = size * 10 + buf[pos] - 48
            pos += 1
        pos += size + 4
        bulks -= 1
    return pos


def packed(data: bytes, pos: cython.Py_ssize_t, end: cython.Py_ssize_t, least: cython.Py_ssize_t) -> list:
    """Whole commands, `data[pos:end]`, which the scanner has found to be right, in parts.

    Args:
        least: so many SETs are worth being packed.
    Returns a list of (start, end, commands, bytes of an MSET, or None: as they are), in order.
    """
    buf: cython.p_const_uchar = data
    parts: list = []
    start: cython.Py_ssize_t = pos  # of what goes as it is
    plain: cython.Py_ssize_t = 0
    sets: cython.Py_ssize_t
    at: cython.Py_ssize_t
    argc: cython.Py_ssize_t
    while pos < end:
        sets = 0
        at = pos
        while at < end and _is_set(buf, at, end):
            at = _behind(buf, at + HEAD, 2)
            sets += 1
        if sets >= least:
            if plain:
                parts.append((start, pos, plain, None))
            parts.append((pos, at, sets, _mset(data, pos, at, sets)))
            start = at
            plain = 0
        else:
            plain += sets
            if at < end:
                argc = 0
                at += 1
                while buf[at] != 13:
                    argc = argc * 10 + buf[at] - 48
                    at += 1
                at = _behind(buf, at + 2, argc)
                plain += 1
        pos = at
    if plain:
        parts.append((start, end, plain, None))
    return parts


def _mset(data: bytes, pos: cython.Py_ssize_t, end: cython.Py_ssize_t, sets: cython.Py_ssize_t) -> bytes:
    """One MSET of the SETs that data[pos:end] is."""
    if not cython.compiled:
        pairs = []
        while pos < end:
            after = _behind(data, pos + HEAD, 2)
            pairs.append(data[pos + HEAD : after])
            pos = after
        return b"*%d\r\n" % (2 * sets + 1) + NAME + b"".join(pairs)
    buf: cython.p_const_uchar = data
    after: cython.Py_ssize_t
    size: cython.Py_ssize_t = 3 + digits(2 * sets + 1) + len(NAME) + (end - pos) - HEAD * sets
    made: bytes = PyBytes_FromStringAndSize(cython.NULL, size)
    out: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(made))
    at: cython.Py_ssize_t = 1
    out[0] = 42
    at = decimal(out, at, 2 * sets + 1, True)
    at = copy(out, at, NAME, 0, len(NAME))
    while pos < end:
        after = _behind(buf, pos + HEAD, 2)
        at = copy(out, at, buf, pos + HEAD, after - pos - HEAD)
        pos = after
    return made
