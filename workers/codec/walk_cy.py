"""Walks the values of an RDB as they arrive, without reading them.

A value's layout is a tiny program (see workers.codec.programs), run by a machine that can stop at any byte; so a
value of any size passes through. Source: Redis and Valkey src/rdb.c.
"""

from __future__ import annotations

import cython

from sync_tasks.errors import Malformed
from workers.codec.crc64_cy import crc64
from workers.codec.lzf_cy import decompress
from workers.codec.programs import CHECK, CODE, starts

if cython.compiled:
    from cython.cimports.libc.string import memcpy, memmove


@cython.cclass
class Walker:
    """The buffer of bytes fed, where we are in it, its checksum so far, and the machine."""

    def __init__(self) -> None:
        self._buf = bytearray(64 << 10)
        self._code = CODE
        self._starts = starts("VALKEY", 80)
        self._templates = None
        self._head = self._pos = self._tail = self._summed = 0
        self._base = self._crc = self._skip = self._number = self._limit = 0
        self._pc = self._depth = self._module = 0
        self._count = 0
        if not cython.compiled:
            self._left = [0] * 4
            self._loop = [0] * 4

    @property
    def offset(self) -> int:
        """Bytes consumed."""
        return self._base + self._pos

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _append_bytes(self, data: bytes | bytearray | memoryview) -> cython.int:
        """Add bytes at the end of the buffer."""
        self._sum()
        if cython.compiled:
            view: cython.const[cython.uchar][::1] = data
            size: cython.Py_ssize_t = view.shape[0]
            if size:
                self._room(size)
                memcpy(cython.cast(cython.p_uchar, self._buf) + self._tail, cython.address(view[0]), size)
        else:
            size = len(data)
            self._room(size)
            self._buf[self._tail : self._tail + size] = data
        self._tail += size
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _room(self, size: cython.Py_ssize_t) -> cython.int:
        """Make room for `size` more bytes: forget those before _head, then grow, doubling up to the limit."""
        kept: cython.Py_ssize_t = self._tail - self._head
        have: cython.Py_ssize_t = len(self._buf)
        if self._tail + size <= have:
            return 0
        if cython.compiled:
            start: cython.p_uchar = self._buf
            memmove(start, start + self._head, kept)
        else:
            self._buf[:kept] = self._buf[self._head : self._tail]
        self._base += self._head
        self._pos -= self._head
        self._summed -= self._head
        self._tail = kept
        self._head = 0
        if kept + size > have:
            self._buf += bytes(max(kept + size, min(2 * have, self._limit + size)) - have)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _sum(self) -> cython.int:
        """Bring the checksum up to the next byte to look at."""
        if self._summed < self._pos:
            self._crc = crc64(memoryview(self._buf)[self._summed : self._pos], self._crc)
            self._summed = self._pos
        return 0

    @cython.cfunc
    def _where(self) -> str:
        """What an error says of its place."""
        return ""

    @cython.cfunc
    def _bad(self, message: str, pos: cython.Py_ssize_t) -> object:
        return Malformed(f"{message}{self._where()}", self._base + pos, hint=CHECK)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _length(self, p: cython.p_const_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Read a length at `pos` into _number; the bytes it takes, 0 when more are needed."""
        i: cython.int
        size: cython.int
        value: cython.ulonglong = 0
        if pos >= end:
            return 0
        if p[pos] < 64:
            self._number = p[pos]
            return 1
        if p[pos] < 128:
            if end - pos < 2:
                return 0
            self._number = ((p[pos] & 63) << 8) | p[pos + 1]
            return 2
        if p[pos] > 129:
            raise self._bad("a length has an unknown form", pos)
        size = 5 if p[pos] == 128 else 9
        if end - pos < size:
            return 0
        for i in range(1, size):
            value = (value << 8) | p[pos + i]
        self._number = value
        return size

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _string(self, p: cython.p_const_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Read the head of a string and, into _skip, how much follows; its size, 0 if bytes are missing."""
        size: cython.int
        more: cython.int
        if pos >= end:
            return 0
        if p[pos] >= 192:
            if p[pos] < 195:
                self._skip = 1 << (p[pos] - 192)
                return 1
            if p[pos] > 195:
                raise self._bad("a string has an unknown encoding", pos)
            size = self._length(p, pos + 1, end)
            if size == 0:
                return 0
            self._skip = min(self._number, cython.cast(cython.ulonglong, 1 << 62))
            more = self._length(p, pos + 1 + size, end)
            if more == 0:
                self._skip = 0
                return 0
            size += more + 1
        else:
            size = self._length(p, pos, end)
            if size == 0:
                return 0
            self._skip = min(self._number, cython.cast(cython.ulonglong, 1 << 62))
        if self._skip >= 1 << 62:
            raise self._bad("a string states an impossible length", pos)
        return size

    @cython.cfunc
    def _text(self, p: cython.p_const_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> bytes | None:
        """The string at `pos`, decoded; None when it is not all there. Leaves its end in _number."""
        size: cython.int = self._string(p, pos, end)
        n: cython.longlong = self._skip
        kind: cython.int
        wide: cython.ulonglong = self._number
        self._skip = 0
        if size == 0 or n > end - pos - size:
            return None
        kind = p[pos]
        self._number = pos + size + n
        raw = bytes(p[pos + size : pos + size + n])
        if kind < 192:
            return raw
        if kind < 195:
            return b"%d" % int.from_bytes(raw, "little", signed=True)
        try:
            return decompress(raw, min(wide, cython.cast(cython.ulonglong, 1 << 62)))
        except Malformed as error:
            raise self._bad(error.message, pos) from None

    @cython.cfunc
    @cython.exceptval(check=False)
    def _begin(self, program: cython.int) -> cython.bint:
        """Set the machine to the start of the program of a type or opcode; false if it has none."""
        starts: cython.p_const_uchar = self._starts
        self._pc = starts[2 * program] | (starts[2 * program + 1] << 8)
        self._depth = 0
        self._skip = 0
        return self._pc != 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _walk(self) -> cython.int:
        """Go on through a value: 1 at its end, 0 when more bytes are needed."""
        p: cython.p_const_uchar = self._buf
        code: cython.p_const_uchar = self._code
        end: cython.Py_ssize_t = self._tail
        size: cython.int
        op: cython.int
        while True:
            if self._skip:
                if self._skip > end - self._pos:
                    self._skip -= end - self._pos
                    self._pos = end
                    return 0
                self._pos += self._skip
                self._skip = 0
            op = code[self._pc]
            if op == 69:  # E
                self._left[self._depth - 1] -= 1
                if self._left[self._depth - 1]:
                    self._pc = self._loop[self._depth - 1]
                else:
                    self._depth -= 1
                    self._pc += 1
                continue
            if op == 46:  # .
                return 1
            if op == 74 or op > 86:  # J, W, X
                self._jump(op)
                continue
            if self._pos >= end:
                return 0
            if op == 83:  # S
                size = self._string(p, self._pos, end)
                if size == 0:
                    return 0
                self._pos += size
            elif op < 57:  # 4, 6, 8
                self._skip = 16 if op == 54 else op - 48
            elif op == 84:  # T
                self._skip = p[self._pos] if p[self._pos] < 253 else 0
                self._pos += 1
            else:
                size = self._length(p, self._pos, end)
                if size == 0:
                    return 0
                self._branch(op)
                self._pos += size
                continue
            self._pc += 1

    @cython.cfunc
    @cython.exceptval(check=False)
    def _jump(self, op: cython.int) -> cython.void:
        """Act on a letter that reads nothing."""
        if op == 74:  # J
            self._pc = self._module
        elif op == 88:  # X
            self._pc += 9
        else:  # W
            self._pc += 1
            self._repeat(self._count)

    @cython.cfunc
    @cython.exceptval(check=False)
    def _repeat(self, count: cython.ulonglong) -> cython.void:
        """Begin a loop whose body is at _pc; `count` is not 0."""
        self._left[self._depth] = count
        self._loop[self._depth] = self._pc
        self._depth += 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _branch(self, op: cython.int) -> cython.int:
        """Act on a length just read, in _number: count of a loop, kind of a node, opcode of a module."""
        code: cython.p_const_uchar = self._code
        depth: cython.int = 1
        self._pc += 1
        if op == 76:  # L
            return 0
        if op == 78:  # N
            if self._number:
                self._repeat(self._number)
                return 0
            while depth:
                depth += (code[self._pc] == 78) - (code[self._pc] == 69)
                self._pc += 1
        elif op == 67 and self._number not in (1, 2):  # C
            raise self._bad("a list node is of an unknown kind", self._pos)
        elif op == 85 and self._number != 2:  # U
            raise self._bad("module data begins wrongly", self._pos)
        elif op == 77:  # M
            self._module = self._pc - 1
            if self._number > 5:
                raise self._bad("a module value has an unknown opcode", self._pos)
            if self._number:
                self._pc += (0, 1, 1, 3, 5, 7)[self._number]
        elif op < 76:
            self._newer(op)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _newer(self, op: cython.int) -> cython.int:
        """Act on a length of what only Redis 8 has: arrays, and hashes of templates."""
        if op == 65:  # A
            if self._number > 3:
                raise self._bad("an element of an array is of an unknown kind", self._pos)
            if self._number in (1, 2):  # an integer, a float
                self._skip = 8
                self._pc += 1
        elif op == 75:  # K
            if self._number == 0:
                raise self._bad("an array is empty", self._pos)
            self._count = self._number
        elif op == 70:  # F
            if self._number > 1:
                raise self._bad("an array begins wrongly", self._pos)
            self._pc += self._number == 0
        elif op == 72:  # H
            self._count = self._templates.values(self._number)
            if self._count == 0:
                raise self._bad(f"a hash is of template {self._number}, which is not there", self._pos)
            self._repeat(self._count)
        return 0
