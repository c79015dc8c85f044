"""Turns chunk records into commands for the target: SET for small strings, RESTORE for everything else.

A compressed string is cheaper for the target to take as it is than to expand.

A RESTORE payload is the type byte and value as they stood in the RDB, the RDB version (two bytes, little
endian) and the CRC-64 of all that. Source: Redis src/cluster.c, createDumpPayload and verifyDumpPayload.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from

import cython

from sync_tasks.errors import Malformed
from workers.codec.crc64_cy import crc64

if cython.compiled:
    from cython.cimports.workers.codec.crc64_cy import crc_bytes
    from cython.cimports.workers.codec.lzf_cy import lzf_into
    from cython.cimports.workers.codec.raw_cy import (
        copy,
        decimal,
        digits,
        head_size,
        length,
        load,
        load_signed,
        store,
        string_end,
    )
else:
    from workers.codec.lzf_cy import lzf_into
    from workers.codec.raw_cy import (
        copy,
        decimal,
        digits,
        head_size,
        length,
        load,
        load_signed,
        store,
        string_end,
    )

SET_LIMIT = cython.declare(cython.Py_ssize_t, 64 << 10)  # bytes: shorter strings go by SET
HUGE = cython.declare(cython.Py_ssize_t, 0xFFFFFFFF)  # value length of a record that ends with its file
KEY_REAL = cython.declare(cython.longlong, 1 << 48)  # ms: a time from here on never comes, and takes no hold
FIELD_REAL = cython.declare(cython.longlong, 1 << 44)
OVERHEAD = cython.declare(cython.Py_ssize_t, 192)  # bytes: the most a command adds to its key and value
HASH_WITH_TTL = cython.declare(cython.int, 22)


@cython.final
@cython.cclass
class RestoreEncoder:
    """Encodes chunk records (`<qII` expire_ms, key length, value length; key; type byte, value) as commands.

    For one thread at a time.

    Args:
        rdb_version: written into RESTORE payloads, as the source's own DUMP states it.
        key_hold: ms added to the expiry of keys below 2**48; later ones stay as they are.
        field_hold: ms added to the expiry of hash fields below 2**44 in values of Valkey; later ones stay as they are.
            Those of Redis `Transcriber` holds.
        longest: bytes of a value that is encoded, unless it is a string; 0: no matter how many.
    """

    rdb_version = cython.declare(cython.int, visibility="readonly")
    key_hold = cython.declare(cython.longlong, visibility="public")
    field_hold = cython.declare(cython.longlong, visibility="public")
    _longest: cython.Py_ssize_t
    _out: bytearray
    _stop: cython.Py_ssize_t  # end of the planned records
    _size: cython.Py_ssize_t  # the most bytes that their commands take
    _at: cython.Py_ssize_t  # the value being encoded

    def __init__(self, rdb_version: int, key_hold: int = 0, field_hold: int = 0, longest: int = 0) -> None:
        self.rdb_version = rdb_version
        self.key_hold = key_hold
        self.field_hold = field_hold
        self._longest = longest
        self._out = bytearray(64 << 10)
        self._stop = self._size = self._at = 0

    def encode(
        self,
        buf: bytes | bytearray | memoryview,
        pos: cython.Py_ssize_t,
        max_keys: cython.Py_ssize_t,
        max_bytes: cython.Py_ssize_t,
    ) -> tuple[bytes, int, int]:
        """Commands for the records of `buf` from `pos`, one a key. Releases the GIL.

        Stops after `max_keys` records, after about `max_bytes` of commands (the last record may pass that),
        at a record that is not all there or longer than may be, and before a huge one unless it is the first.

        Returns:
            The commands, the number of keys, and the position of the first record not encoded.

        Raises:
            Malformed: a huge record; a record, plain string or hash with field times that does not follow its
                format. The offset is the position in `buf`.
        """
        if pos < 0:
            raise ValueError("pos must not be negative")
        keys: cython.Py_ssize_t = 0
        at: cython.Py_ssize_t = 0
        out: cython.p_uchar
        if cython.compiled:
            view: cython.const[cython.uchar][::1] = buf
            if pos < view.shape[0]:
                p: cython.p_const_uchar = cython.address(view[0])
                keys = self._plan(p, pos, view.shape[0], max_keys, max_bytes)
                self._room()
                out = self._out
                with cython.nogil:
                    at = self._write(p, pos, out)
        elif pos < len(buf):
            keys = self._plan(buf, pos, len(buf), max_keys, max_bytes)
            self._room()
            at = self._write(buf, pos, self._out)
        if keys == 0:
            return b"", 0, pos
        if at < 0:
            raise Malformed("a value does not follow its format", self._at)
        out = self._out
        result = bytes(out[:at])
        if len(self._out) > 4 << 20:
            self._out = bytearray(64 << 10)
        return result, keys, self._stop

    def iter_keys(self, buf: bytes | bytearray | memoryview, pos: int = 0) -> Iterator[tuple[bytes, int]]:
        """(key, expire_ms or -1) of each complete record of `buf` from `pos`; of a huge one, too."""
        end = len(buf)
        while end - pos >= 16:
            expire, klen, vlen = unpack_from("<qII", buf, pos)
            after = pos + 16 + klen
            if after > end or (vlen != 0xFFFFFFFF and after + vlen > end):
                return
            yield bytes(buf[pos + 16 : after]), expire
            if vlen == 0xFFFFFFFF:
                return
            pos = after + vlen

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _plan(
        self,
        p: cython.p_const_uchar,
        pos: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        max_keys: cython.Py_ssize_t,
        max_bytes: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """How many records to encode; sets where they end and the most bytes that their commands take."""
        keys: cython.Py_ssize_t = 0
        data: cython.Py_ssize_t = 0
        klen: cython.Py_ssize_t
        vlen: cython.Py_ssize_t
        while keys < max_keys and data < max_bytes and end - pos >= 16:
            klen = load(p, pos + 8, 4)
            vlen = load(p, pos + 12, 4)
            if vlen == HUGE:
                if keys == 0:
                    raise Malformed("a huge record cannot be encoded whole", pos)
                break
            if vlen == 0:
                raise Malformed("a record has no value", pos)
            if klen + vlen > end - pos - 16:
                break
            if self._longest and vlen > self._longest and p[pos + 16 + klen] != 0:
                break
            keys += 1
            data += klen + vlen + 64 + self._expanded(p, pos + 16 + klen, pos + 16 + klen + vlen)
            pos += 16 + klen + vlen
        self._stop = pos
        self._size = data + keys * OVERHEAD
        return keys

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _room(self) -> cython.int:
        """Grow the output buffer to what was planned."""
        if len(self._out) < self._size:
            self._out = bytearray(self._size + (self._size >> 3))
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _write(self, p: cython.p_const_uchar, pos: cython.Py_ssize_t, out: cython.p_uchar) -> cython.Py_ssize_t:
        """Encode the planned records; the bytes written, or -1 with _at set to the malformed value."""
        at: cython.Py_ssize_t = 0
        value: cython.Py_ssize_t
        end: cython.Py_ssize_t
        time: cython.longlong
        while pos < self._stop:
            time = self._time(load_signed(p, pos, 8))
            value = pos + 16 + cython.cast(cython.Py_ssize_t, load(p, pos + 8, 4))
            end = value + cython.cast(cython.Py_ssize_t, load(p, pos + 12, 4))
            self._at = value
            if p[value] == 0 and end - value < SET_LIMIT and end - value > 1 and (
                p[value + 1] < 195 or self._expanded(p, value, end)
            ):
                at = self._set(p, pos + 16, value, end, time, out, at)
            else:
                at = self._restore(p, pos + 16, value, end, time, out, at)
            if at < 0:
                return -1
            pos = end
        return at

    @cython.cfunc
    @cython.inline
    @cython.nogil
    @cython.exceptval(check=False)
    def _time(self, expire: cython.longlong) -> cython.longlong:
        """The time to write in ms, 0 for none. A time up to 1970 is written as 1 ms, since 0 means none."""
        if expire == -1:
            return 0
        if expire < KEY_REAL:
            expire += self.key_hold
        return expire if expire > 0 else 1

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _expanded(
        self, p: cython.p_const_uchar, value: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        """Bytes of a compressed string that goes by SET; 0: it is none, states a length that cannot be, or is long."""
        size: cython.Py_ssize_t
        found: cython.ulonglong
        if end - value < 3 or p[value] != 0 or p[value + 1] != 195 or string_end(p, value + 1, end) != end:
            return 0
        value += 2 + head_size(p, value + 2, end)
        size = head_size(p, value, end)
        found = length(p, value, size)
        value += size
        if found >= cython.cast(cython.ulonglong, SET_LIMIT) or found > cython.cast(
            cython.ulonglong, 132 * (end - value)
        ):
            return 0
        return cython.cast(cython.Py_ssize_t, found)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _set(
        self,
        p: cython.p_const_uchar,
        key: cython.Py_ssize_t,
        value: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        time: cython.longlong,
        out: cython.p_uchar,
        at: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """SET of the string at value + 1; where it ends in `out`, -1 if it is malformed."""
        start: cython.Py_ssize_t = value + 1
        number: cython.longlong
        size: cython.Py_ssize_t
        if string_end(p, start, end) != end:
            return -1
        copy(out, at, b"*3\r\n$3\r\nSET\r\n$", 0, 14)
        if time:
            out[at + 1] = 53
        at = decimal(out, at + 14, value - key, True)
        at = copy(out, at, p, key, value - key)
        at = copy(out, at, b"\r\n$", 0, 3)
        if p[start] == 195:
            size = self._expanded(p, value, end)
            start += 1 + head_size(p, start + 1, end)
            start += head_size(p, start, end)
            at = decimal(out, at, size, True)
            if lzf_into(p, start, end, out, at, size) < 0:
                return -1
            at += size
        elif p[start] >= 192:
            number = load_signed(p, start + 1, end - start - 1)
            at = decimal(out, at, digits(number), True)
            at = decimal(out, at, number, False)
        else:
            start += head_size(p, start, end)
            at = decimal(out, at, end - start, True)
            at = copy(out, at, p, start, end - start)
        if time:
            at = copy(out, at, b"\r\n$4\r\nPXAT\r\n$", 0, 13)
            at = decimal(out, at, digits(time), True)
            return decimal(out, at, time, True)
        return copy(out, at, b"\r\n", 0, 2)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _restore(
        self,
        p: cython.p_const_uchar,
        key: cython.Py_ssize_t,
        value: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        time: cython.longlong,
        out: cython.p_uchar,
        at: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """RESTORE key time payload REPLACE ABSTTL; where it ends in `out`, -1 if the value is malformed."""
        start: cython.Py_ssize_t
        crc: cython.ulonglong
        at = copy(out, at, b"*6\r\n$7\r\nRESTORE\r\n$", 0, 18)
        at = decimal(out, at, value - key, True)
        at = copy(out, at, p, key, value - key)
        at = copy(out, at, b"\r\n$", 0, 3)
        at = decimal(out, at, digits(time), True)
        at = decimal(out, at, time, True)
        at = copy(out, at, b"$", 0, 1)
        at = decimal(out, at, end - value + 10, True)
        start = at
        at = copy(out, at, p, value, end - value)
        if p[value] == HASH_WITH_TTL and self.field_hold and not self._shift(out, start + 1, at):
            return -1
        store(out, at, self.rdb_version, 2)
        if cython.compiled:
            crc = crc_bytes(out, start, at + 2, 0)
        else:
            crc = crc64(out[start : at + 2])
        at = store(out, at + 2, crc, 8)
        return copy(out, at, b"\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n", 0, 27)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _shift(self, out: cython.p_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        """Add the hold to each field time of the hash out[pos:end]; false if it is malformed."""
        size: cython.Py_ssize_t = head_size(out, pos, end)
        left: cython.ulonglong
        time: cython.longlong
        if size < 0:
            return False
        left = length(out, pos, size)
        pos += size
        while left:
            left -= 1
            pos = string_end(out, pos, end)
            if pos < 0:
                return False
            pos = string_end(out, pos, end)
            if pos < 0 or end - pos < 8:
                return False
            time = load_signed(out, pos, 8)
            if time != -1 and time < FIELD_REAL:
                time += self.field_hold
                store(out, pos, cython.cast(cython.ulonglong, time), 8)
            pos += 8
        return pos == end
