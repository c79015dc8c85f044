"""A value longer than is kept, passed on in parts as it arrives."""

from __future__ import annotations

import cython

from workers.codec.template_cy import stated

if cython.compiled:
    from cython.cimports.workers.codec.key_cy import Keyed
else:
    from workers.codec.key_cy import Keyed

ENOUGH = cython.declare(cython.Py_ssize_t, 256 << 10)  # bytes: a part is not made smaller for want of bytes
PART = cython.declare(cython.Py_ssize_t, 1 << 20)  # bytes: the most that one part holds

# Numbers of types and opcodes as in workers.codec.programs, for speed.
HASH = cython.declare(cython.int, 4)
OF_LISTPACK = cython.declare(cython.int, 30)
OF_ARRAY = cython.declare(cython.int, 32)
KEY_META = cython.declare(cython.int, 243)


@cython.cclass
class Parted(Keyed):
    """A walker that passes a value on in parts: `_begin_parts`, then `_part` until it tells the end."""

    def __init__(self, shards: int) -> None:
        Keyed.__init__(self, shards)
        self._type = 0
        self._before = b""  # what stands before the value in its payload: key metadata and the type, or nothing
        self._done = False  # the value's end, or that of a string in it, has been found
        self._total = 0
        self._fields = None  # of a hash of a template, else None
        self._at = 0  # the next of them

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _begin_parts(self) -> cython.int:
        """Begin with the value at _head; the type that its payload has."""
        kind: cython.int = self._type
        fields: list = []
        if kind == OF_LISTPACK:
            raise self._unknown(f"a hash of a template in a listpack of over {self._limit} bytes", self._head)
        if kind == OF_ARRAY:
            # Back to its first value: fields are woven in between.
            self._pos = self._head + self._length(self._buf, self._head, self._tail)
            self._head = self._pos
            self._fields = fields = self._templates.fields(self._number)
            self._at = 0
            self._skip = 0
            self._done = True
            kind = HASH
        if self._before:
            self._before += bytes([kind])
            kind = KEY_META
        if self._fields is not None:
            self._before += stated(len(fields))
        self._total = 0
        return kind

    @cython.cfunc
    def _part(self) -> tuple | None:
        """("part", bytes), ("huge_end", bytes in all), or None when more bytes are needed."""
        size: cython.Py_ssize_t = self._pos - self._head
        p: cython.p_uchar = self._buf
        if self._fields is not None:
            return self._woven()
        if self._before:
            return self._front()
        if size < PART and not self._done:
            self._done = self._walk() == 1
            size = self._pos - self._head
        if size >= ENOUGH or (self._done and size):
            size = min(size, PART)
            self._head += size
            self._total += size
            return ("part", bytes(p[self._head - size : self._head]))
        if not self._done:
            self._sum()
            return None
        return self._end_parts()

    @cython.cfunc
    def _front(self) -> tuple:
        """A part of what stands before."""
        part = self._before[: 1 << 20]
        self._before = self._before[1 << 20 :]
        self._total += len(part)
        return ("part", part)

    @cython.cfunc
    def _woven(self) -> tuple | None:
        """The next part of a hash of a template: each value behind its field."""
        p: cython.p_uchar = self._buf
        out = bytearray(self._before)
        while len(out) < ENOUGH:
            if self._done:
                if self._at == len(self._fields):
                    break
                out += self._fields[self._at]
                self._at += 1
                self._begin(0)
            self._done = self._walk() == 1
            out += bytes(p[self._head : self._pos])
            self._head = self._pos
            if not self._done:
                break
        self._before = bytes(out)
        if len(out) >= ENOUGH or (out and self._done and self._at == len(self._fields)):
            return self._front()
        if not self._done:
            self._sum()
            return None
        return self._end_parts()

    @cython.cfunc
    def _end_parts(self) -> tuple:
        self._fields = None
        return ("huge_end", self._total)
