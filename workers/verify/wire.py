"""RESP2 for reading in bulk: commands packed once, answers cut out of large buffers.

The format: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

LARGEST_BULK = 1 << 30  # bytes; a server's own limit is 512 MB by default
LARGEST_ARRAY = 1 << 32
DEEPEST = 16  # arrays within arrays
RECEIVE = 1 << 18  # bytes asked of the socket at once
LARGEST_RECEIVE = 1 << 24

CR_LF = b"\r\n"


class Refusal:
    """An error answer, as a value. `line` has no leading minus."""

    __slots__ = ("line",)

    def __init__(self, line: bytes) -> None:
        self.line = line

    def __repr__(self) -> str:
        return f"Refusal({self.line!r})"


class NotRedis(Exception):
    """Bytes that are no RESP2 answer."""


def arg(value: bytes) -> bytes:
    """One argument in its wire form; packed once for all the commands that name a key."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def head(arguments: int, *words: bytes) -> bytes:
    """The beginning of a command of `arguments` arguments in all, of which `words` are the first."""
    return b"*%d\r\n" % arguments + b"".join(map(arg, words))


def pack(*words: bytes) -> bytes:
    """A whole command."""
    return head(len(words), *words)


def each(beginning: bytes, args: Sequence[bytes], end: bytes = b"") -> bytes:
    """One command for each packed argument, `beginning` and `end` around it."""
    if not args:
        return b""
    return beginning + (end + beginning).join(args) + end


class Answers:
    """Cuts answers out of what `receive` returns.

    Args:
        receive: given a number of bytes, at most so many from the server; b"" at the end of the connection.
    """

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._buf = b""
        self._pos = 0
        self.refused: list[Refusal] = []  # the errors among the answers read last

    def read(self, count: int) -> list[Any]:
        """`count` answers: bytes, int, None, Refusal, or lists of them.

        Raises:
            EOFError: the connection ended before.
            NotRedis: it is no Redis that answers.
        """
        self.refused = []
        return self._items(count, 0)

    def _items(self, count: int, depth: int) -> list[Any]:
        out: list[Any] = []
        add = out.append
        buf, pos = self._buf, self._pos
        while len(out) < count:
            # The two answers that come by the million are cut here; the others take the slow way.
            stop = buf.find(CR_LF, pos)
            if stop > 0 and buf[pos] == 58:  # :
                add(int(buf[pos + 1 : stop]))
                pos = stop + 2
                continue
            if stop > 0 and buf[pos] == 36 and buf[pos + 1] != 45:  # $, not $-1
                end = stop + 2 + int(buf[pos + 1 : stop])
                if end + 2 <= len(buf):
                    add(buf[stop + 2 : end])
                    pos = end + 2
                    continue
            self._buf, self._pos = buf, pos
            add(self._one(depth))
            buf, pos = self._buf, self._pos
        self._buf, self._pos = buf, pos
        return out

    def _one(self, depth: int) -> Any:
        if self._pos >= len(self._buf):
            self._more(1)
        if self._buf[self._pos] not in b"+-:$*":
            raise NotRedis(repr(self._buf[self._pos : self._pos + 40]))
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            refusal = Refusal(rest)
            self.refused.append(refusal)
            return refusal
        try:
            number = int(rest)
        except ValueError:
            raise NotRedis(repr(line[:40])) from None
        if kind == b":":
            return number
        if kind == b"$" and number <= LARGEST_BULK:
            return self._bulk(number) if number >= 0 else None
        if kind == b"*" and number <= LARGEST_ARRAY and depth < DEEPEST:
            return self._items(number, depth + 1) if number >= 0 else None
        raise NotRedis(repr(line[:40]))

    def _line(self) -> bytes:
        while (stop := self._buf.find(CR_LF, self._pos)) < 0:
            if len(self._buf) - self._pos > 1 << 16:
                raise NotRedis("a line without end")
            self._more(1)
        line = self._buf[self._pos : stop]
        self._pos = stop + 2
        return line

    def _bulk(self, size: int) -> bytes:
        missing = self._pos + size + 2 - len(self._buf)
        if missing > 0:
            self._more(missing)
        value = self._buf[self._pos : self._pos + size]
        self._pos += size + 2
        return value

    def _more(self, least: int) -> None:
        """Receive `least` bytes or more."""
        parts = [self._buf[self._pos :]]
        while least > 0:
            data = self._receive(min(max(least, RECEIVE), LARGEST_RECEIVE))
            if not data:
                raise EOFError
            parts.append(data)
            least -= len(data)
        self._buf = b"".join(parts)
        self._pos = 0
