"""Sets of keys as runs of 128-bit hashes: SipHash-2-4 with a key of the task's own, so that nobody who chooses names
of keys can make two of them look alike.

A part of a set are the hashes whose first `bits` bits are `part`: where all do not fit into memory, each part does.
Source of the algorithm: Aumasson and Bernstein, SipHash, 2012; its reference code for the 128 bits.
"""

from __future__ import annotations

import cython

from sync_tasks.errors import Malformed

if cython.compiled:
    from cython.cimports.libc.string import memcmp, memcpy, memmove, memset
    from cython.cimports.workers.codec.raw_cy import copy, load, store
else:
    from workers.codec.raw_cy import copy, load, store

HASH_BYTES = 16
RECENT = cython.declare(cython.int, 16384)  # hashes that are remembered while others are made
FEW = cython.declare(cython.int, 64)  # hashes that are sorted as they are
HEAD = cython.declare(cython.Py_ssize_t, 16)  # bytes of a chunk's record before the key
_FULL = 0xFFFFFFFFFFFFFFFF
_ONE = cython.declare(cython.ulonglong, 0x736F6D6570736575)
_TWO = cython.declare(cython.ulonglong, 0x646F72616E646F6D)
_THREE = cython.declare(cython.ulonglong, 0x6C7967656E657261)
_FOUR = cython.declare(cython.ulonglong, 0x7465646279746573)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _rotated(x: cython.ulonglong, bits: cython.int) -> cython.ulonglong:
    if cython.compiled:
        return (x << bits) | (x >> (64 - bits))
    return ((x << bits) & _FULL) | (x >> (64 - bits))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _sum(x: cython.ulonglong, y: cython.ulonglong) -> cython.ulonglong:
    if cython.compiled:
        return x + y
    return (x + y) & _FULL


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _rounds(v: cython.p_ulonglong, count: cython.int) -> cython.void:
    _i: cython.int
    for _i in range(count):
        v[0] = _sum(v[0], v[1])
        v[1] = _rotated(v[1], 13) ^ v[0]
        v[0] = _rotated(v[0], 32)
        v[2] = _sum(v[2], v[3])
        v[3] = _rotated(v[3], 16) ^ v[2]
        v[0] = _sum(v[0], v[3])
        v[3] = _rotated(v[3], 21) ^ v[0]
        v[2] = _sum(v[2], v[1])
        v[1] = _rotated(v[1], 17) ^ v[2]
        v[2] = _rotated(v[2], 32)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _word(p: cython.p_const_uchar, pos: cython.Py_ssize_t) -> cython.ulonglong:
    """Little-endian integer of 8 bytes, in sight of the compiler, which makes one instruction of it."""
    value: cython.ulonglong = p[pos]
    value |= cython.cast(cython.ulonglong, p[pos + 1]) << 8
    value |= cython.cast(cython.ulonglong, p[pos + 2]) << 16
    value |= cython.cast(cython.ulonglong, p[pos + 3]) << 24
    value |= cython.cast(cython.ulonglong, p[pos + 4]) << 32
    value |= cython.cast(cython.ulonglong, p[pos + 5]) << 40
    value |= cython.cast(cython.ulonglong, p[pos + 6]) << 48
    value |= cython.cast(cython.ulonglong, p[pos + 7]) << 56
    return value


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _hash(
    data: cython.p_const_uchar,
    start: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
    seed: cython.p_const_uchar,
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
) -> cython.void:
    """Put the hash of data[start:start + size] to out[at:at + 16]; the seed has 16 bytes."""
    v: cython.ulonglong[4]
    if not cython.compiled:
        v = [0] * 4
    one: cython.ulonglong = _word(seed, 0)
    two: cython.ulonglong = _word(seed, 8)
    word: cython.ulonglong
    left: cython.int = size & 7
    pos: cython.Py_ssize_t = start
    end: cython.Py_ssize_t = start + size - left
    v[0] = one ^ _ONE
    v[1] = two ^ _TWO ^ 0xEE
    v[2] = one ^ _THREE
    v[3] = two ^ _FOUR
    while pos < end:
        word = _word(data, pos)
        v[3] ^= word
        _rounds(v, 2)
        v[0] ^= word
        pos += 8
    word = load(data, pos, left) if left else 0
    word |= cython.cast(cython.ulonglong, size & 255) << 56
    v[3] ^= word
    _rounds(v, 2)
    v[0] ^= word
    v[2] ^= 0xEE
    _rounds(v, 4)
    store(out, at, v[0] ^ v[1] ^ v[2] ^ v[3], 8)
    v[1] ^= 0xDD
    _rounds(v, 4)
    store(out, at + 8, v[0] ^ v[1] ^ v[2] ^ v[3], 8)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _is_in(p: cython.p_const_uchar, at: cython.Py_ssize_t, bits: cython.int, part: cython.int) -> cython.bint:
    """Whether the hash at p[at] belongs to a part; at most 16 bits."""
    return bits == 0 or ((p[at] << 8) | p[at + 1]) >> (16 - bits) == part


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _order(
    a: cython.p_const_uchar, i: cython.Py_ssize_t, b: cython.p_const_uchar, j: cython.Py_ssize_t
) -> cython.int:
    """Less than 0, 0, more than 0: which of the hashes at a[i] and b[j] comes first."""
    if cython.compiled:
        return memcmp(a + i, b + j, 16)
    return (a[i : i + 16] > b[j : j + 16]) - (a[i : i + 16] < b[j : j + 16])


@cython.cfunc
@cython.exceptval(check=False)
def _position(
    table: cython.p_const_uchar, size: cython.Py_ssize_t, one: cython.p_const_uchar
) -> cython.Py_ssize_t:
    """Where in a sorted table of `size` bytes a hash is; -1: nowhere."""
    low: cython.Py_ssize_t = 0
    high: cython.Py_ssize_t = size // 16
    middle: cython.Py_ssize_t
    said: cython.int
    while low < high:
        middle = (low + high) // 2
        said = _order(table, middle * 16, one, 0)
        if said == 0:
            return middle * 16
        if said < 0:
            low = middle + 1
        else:
            high = middle
    return -1


def key_hash(key: bytes, seed: bytes) -> bytes:
    """The 16 bytes that stand for a key. `seed` has 16 bytes."""
    out: bytearray = bytearray(16)
    _hash(key, 0, len(key), seed, out, 0)
    return bytes(out)


def record_hashes(data: cython.const_uchar[:], seed: bytes, bits: cython.int = 0, part: cython.int = 0) -> bytes:
    """Hashes of the keys of a chunk's records (`workers.codec.shard_cy`), of one part.

    Raises Malformed with the offset of a record that is cut short.
    """
    end: cython.Py_ssize_t = len(data)
    pos: cython.Py_ssize_t = 0
    count: cython.Py_ssize_t = 0
    key: cython.Py_ssize_t
    size: cython.Py_ssize_t
    if end == 0:
        return b""
    src: cython.p_const_uchar = cython.address(data[0]) if cython.compiled else data
    key_seed: cython.p_const_uchar = seed
    room: bytearray = bytearray(16 * 1024)
    out: cython.p_uchar = room
    while pos < end:
        if pos + HEAD > end:
            raise Malformed("a chunk ends inside a record", pos)
        size = load(src, pos + 8, 4)
        key = pos + HEAD
        if key + size > end or key + size + cython.cast(cython.Py_ssize_t, load(src, pos + 12, 4)) > end:
            raise Malformed("a chunk ends inside a record", pos)
        if 16 * count + 16 > len(room):
            room += bytes(len(room))
            out = room
        _hash(src, key, size, key_seed, out, 16 * count)
        if _is_in(out, 16 * count, bits, part):
            count += 1
        pos = key + size + cython.cast(cython.Py_ssize_t, load(src, pos + 12, 4))
    return bytes(room[: 16 * count])


def command_hashes(
    data: bytes, pos: cython.Py_ssize_t, end: cython.Py_ssize_t, count: cython.Py_ssize_t, seed: bytes
) -> bytes:
    """Hashes of the first arguments of `count` whole commands, data[pos:end], which the scanner has found to be right.

    Most of those that come again are left out. Others may run meanwhile.
    """
    src: cython.p_const_uchar = data
    key_seed: cython.p_const_uchar = seed
    size: cython.Py_ssize_t
    room: bytearray = bytearray(16 * count)
    out: cython.p_uchar = room
    last: bytearray = bytearray(16 * RECENT)
    recent: cython.p_uchar = last
    with cython.nogil:
        size = _command_hashes(src, pos, end, key_seed, out, 16 * count, recent)
    return bytes(room[:size])


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _command_hashes(
    src: cython.p_const_uchar,
    pos: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    seed: cython.p_const_uchar,
    out: cython.p_uchar,
    size: cython.Py_ssize_t,
    recent: cython.p_uchar,
) -> cython.Py_ssize_t:
    """Bytes of `out`, which has room for `size`, that were used; `recent` has the last hash of each kind."""
    at: cython.Py_ssize_t = 0
    argc: cython.Py_ssize_t
    length: cython.Py_ssize_t
    i: cython.Py_ssize_t
    place: cython.Py_ssize_t
    while pos < end:
        argc = 0
        pos += 1
        while src[pos] != 13:
            argc = argc * 10 + src[pos] - 48
            pos += 1
        pos += 2
        for i in range(argc):
            length = 0
            pos += 1
            while src[pos] != 13:
                length = length * 10 + src[pos] - 48
                pos += 1
            pos += 2
            if i == 1 and at + 16 <= size:
                _hash(src, pos, length, seed, out, at)
                place = (out[at] << 6 | out[at + 1] & 63) * 16
                if _order(out, at, recent, place) != 0:
                    copy(recent, place, out, at, 16)
                    at += 16
            pos += length + 2
    return at


def of_part(data: bytes, bits: cython.int, part: cython.int) -> bytes:
    """Those of a run of hashes that belong to a part."""
    src: cython.p_const_uchar = data
    at: cython.Py_ssize_t
    size: cython.Py_ssize_t = 0
    if bits == 0:
        return data
    room: bytearray = bytearray(len(data))
    out: cython.p_uchar = room
    for at in range(0, len(data) - 15, 16):
        if _is_in(src, at, bits, part):
            if cython.compiled:
                memcpy(out + size, src + at, 16)
            else:
                out[size : size + 16] = src[at : at + 16]
            size += 16
    return bytes(room[:size])


def distinct(data: bytes) -> bytes:
    """Hashes sorted, each once. Others may run meanwhile."""
    size: cython.Py_ssize_t = len(data) // 16 * 16
    if not cython.compiled:
        return b"".join(sorted({data[at : at + 16] for at in range(0, size, 16)}))
    room: bytearray = bytearray(data[:size])
    spare: bytearray = bytearray(size)
    table: bytearray = bytearray(8 << 16)
    out: cython.p_uchar = room
    other: cython.p_uchar = spare
    counts: cython.p_uchar = table
    with cython.nogil:
        # Two bytes at a time, the second pair first: what that leaves unsorted are a few hashes out of millions.
        if size > 16 * FEW:
            _deal(out, other, size, 2, cython.cast(cython.p_longlong, counts))
            _deal(other, out, size, 0, cython.cast(cython.p_longlong, counts))
        size = _finish(out, size, other)
    return bytes(room[:size])


if cython.compiled:

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _deal(
        src: cython.p_const_uchar,
        dst: cython.p_uchar,
        size: cython.Py_ssize_t,
        digit: cython.int,
        places: cython.p_longlong,
    ) -> cython.void:
        """One turn of a radix sort: by the two bytes at `digit` of each hash; `places` has room for 65536."""
        at: cython.Py_ssize_t
        place: cython.longlong = 0
        count: cython.longlong
        value: cython.int
        memset(places, 0, 8 << 16)
        for at in range(digit, size, 16):
            places[(src[at] << 8) | src[at + 1]] += 16
        for value in range(65536):
            count = places[value]
            places[value] = place
            place += count
        for at in range(0, size, 16):
            value = (src[at + digit] << 8) | src[at + digit + 1]
            memcpy(dst + places[value], src + at, 16)
            places[value] += 16

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _finish(p: cython.p_uchar, size: cython.Py_ssize_t, one: cython.p_uchar) -> cython.Py_ssize_t:
        """Sort what is sorted by its first bytes, and leave each once; bytes that remain. `one` has room for one."""
        kept: cython.Py_ssize_t = 0
        at: cython.Py_ssize_t
        place: cython.Py_ssize_t
        said: cython.int
        for at in range(0, size, 16):
            memcpy(one, p + at, 16)
            place = kept
            said = 1
            while place > 0:
                said = memcmp(one, p + place - 16, 16)
                if said >= 0:
                    break
                place -= 16
            if place > 0 and said == 0:
                continue
            memmove(p + place + 16, p + place, kept - place)
            memcpy(p + place, one, 16)
            kept += 16
        return kept


def without(data: bytes, others: bytes) -> bytes:
    """What a sorted run has and another sorted one has not."""
    one: cython.p_const_uchar = data
    two: cython.p_const_uchar = others
    j: cython.Py_ssize_t = 0
    end: cython.Py_ssize_t = len(others) // 16 * 16
    at: cython.Py_ssize_t
    said: cython.int
    size: cython.Py_ssize_t = 0
    room: bytearray = bytearray(len(data))
    out: cython.p_uchar = room
    for at in range(0, len(data) - 15, 16):
        said = -1
        while j < end:
            said = _order(one, at, two, j)
            if said <= 0:
                break
            j += 16
        if j >= end or said != 0:
            if cython.compiled:
                memcpy(out + size, one + at, 16)
            else:
                out[size : size + 16] = one[at : at + 16]
            size += 16
    return bytes(room[:size])


def among(keys: list[bytes], table: bytes, seed: bytes) -> list[bytes]:
    """Keys whose hashes a sorted run has."""
    run: cython.p_const_uchar = table
    size: cython.Py_ssize_t = len(table)
    room: bytearray = bytearray(16)
    out: cython.p_uchar = room
    found: list = []  # type: ignore[type-arg]
    for key in keys:
        _hash(key, 0, len(key), seed, out, 0)
        if _position(run, size, out) >= 0:
            found.append(key)
    return found
