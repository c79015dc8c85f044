"""Commands as arguments of one script: each as its number of arguments, and then these.

Written in Cython's pure Python mode. In RESP an argument is a bulk string wherever it stands, so that the bytes of all
arguments are copied as they are; only the head of a command, `*3`, becomes an argument of its own, `$1 3`.
"""

from __future__ import annotations

import cython

from sync_tasks.errors import Malformed

_DIGITS = cython.declare(cython.int, 10)


@cython.final
@cython.cclass
class Flat:
    """Whole commands, given in pieces cut anywhere.

    count: of the arguments so far.
    """

    count = cython.declare(cython.longlong, visibility="readonly")
    _left: cython.longlong  # arguments of the present command that have not begun
    _rest: cython.longlong  # bytes of the present argument that are to come
    _head: bytes  # of a header that is not all there

    def __init__(self) -> None:
        self.count = 0
        self._left = 0
        self._rest = 0
        self._head = b""

    def feed(self, given: bytes) -> bytes:
        """What becomes of the next bytes. Raises Malformed if they are no commands."""
        data: bytes = self._head + given
        self._head = b""
        buf: cython.p_const_uchar = data
        end: cython.Py_ssize_t = len(data)
        pos: cython.Py_ssize_t = 0
        start: cython.Py_ssize_t = 0  # of what is copied as it is
        stop: cython.Py_ssize_t
        number: cython.longlong
        out: list = []
        while pos < end:
            if self._rest:
                stop = pos + self._rest
                if stop > end:
                    self._rest -= end - pos
                    pos = end
                    break
                pos = stop
                self._rest = 0
                continue
            stop = pos + 1
            number = 0
            while stop < end and buf[stop] != 13:
                if buf[stop] < 48 or buf[stop] > 57 or stop - pos > _DIGITS:
                    raise Malformed("a window holds what is no command", pos)
                number = number * 10 + buf[stop] - 48
                stop += 1
            if stop + 2 > end:
                break
            if self._left:
                if buf[pos] != 36:
                    raise Malformed("a window holds what is no argument", pos)
                self._left -= 1
                self._rest = number + 2
                pos = stop + 2
                continue
            if buf[pos] != 42 or number == 0:
                raise Malformed("a window holds what is no command", pos)
            out.append(data[start:pos])
            out.append(b"$%d\r\n" % (stop - pos - 1))
            start = pos + 1
            self._left = number
            self.count += number + 1
            pos = stop + 2
        out.append(data[start:pos])
        self._head = data[pos:]
        return b"".join(out)

    @property
    def whole(self) -> bool:
        """Whether what was given ends with a whole command."""
        return not (self._left or self._rest or self._head)
