"""Pipelines of reading commands and their raw answers, for `tests.compare`: a client library is too slow for millions.

Where one answer ends and the next begins is not looked for on receiving: an ECHO of a random word ends each part of
a pipeline. So whole parts can be compared without being parsed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from redis.connection import parse_url

TIMEOUT_S = 120
RECEIVE = 1 << 20  # bytes asked of the socket at once
END = b"\r\n"
BULK, ARRAY, NUMBER, STATUS, REFUSAL = b"$*:+-"


class Refused(bytes):
    """An error that a server answered."""


def arg(word: bytes) -> bytes:
    """One argument as it is sent."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


def command(*words: bytes, more: int = 0) -> bytes:
    """A command, or its beginning when `more` arguments follow."""
    return b"*%d\r\n" % (len(words) + more) + b"".join(map(arg, words))


def for_each(args: Sequence[bytes], *words: bytes, end: Sequence[bytes] = (), after: bytes = b"") -> bytes:
    """One command for each packed argument, which stands between `words` and `end`, and the commands `after` it."""
    if not args:
        return b""
    beginning, rest = command(*words, more=1 + len(end)), b"".join(map(arg, end)) + after
    return beginning + (rest + beginning).join(args) + rest


class Wire:
    """A connection to one database."""

    def __init__(self, url: str) -> None:
        where = parse_url(url)
        self.socket = socket.create_connection((where["host"], where.get("port", 6379)), TIMEOUT_S)
        word = os.urandom(16).hex().encode()
        self.mark = command(b"ECHO", word)
        self.marked = arg(word)
        self.parts = 0
        if where.get("password"):
            account = [where["username"].encode()] if where.get("username") else []
            self._done(command(b"AUTH", *account, where["password"].encode()))
        self._done(command(b"SELECT", b"%d" % where.get("db", 0)))

    def _done(self, request: bytes) -> None:
        (answer,) = self.ask(request)
        assert answer == b"+OK\r\n", answer

    def send(self, *parts: bytes) -> None:
        """Send a pipeline in parts; each is any number of packed commands."""
        self.parts = len(parts)
        self.socket.sendall(b"".join(part + self.mark for part in parts))

    def receive(self) -> list[bytes]:
        """The raw answers to each part of what was sent."""
        buffer = bytearray()
        parts: list[bytes] = []
        start = looked = 0
        while len(parts) < self.parts:
            at = buffer.find(self.marked, looked)
            if at >= 0:
                parts.append(bytes(buffer[start:at]))
                start = looked = at + len(self.marked)
                continue
            looked = max(start, len(buffer) - len(self.marked) + 1)
            received = self.socket.recv(RECEIVE)
            assert received, "the server has closed the connection"
            buffer += received
        return parts

    def ask(self, *parts: bytes) -> list[bytes]:
        self.send(*parts)
        return self.receive()

    def close(self) -> None:
        self.socket.close()


def lines(raw: bytes) -> list[bytes]:
    """Answers that are a line each: numbers, states, errors, nil."""
    return raw.split(END)[:-1]


def replies(raw: bytes) -> list[Any]:
    """Answers of any kind: bytes, int, None, Refused, and lists of them."""
    out, at = [], 0
    while at < len(raw):
        item, at = _reply(raw, at)
        out.append(item)
    return out


def _reply(raw: bytes, at: int) -> tuple[Any, int]:
    stop = raw.index(END, at)
    kind, rest = raw[at], raw[at + 1 : stop]
    at = stop + 2
    if kind == BULK:
        size = int(rest)
        return (raw[at : at + size], at + size + 2) if size >= 0 else (None, at)
    if kind == ARRAY:
        return _items(raw, at, int(rest))
    if kind == NUMBER:
        return int(rest), at
    assert kind in (STATUS, REFUSAL), raw[at - 40 : at]
    return (rest if kind == STATUS else Refused(rest)), at


def _items(raw: bytes, at: int, count: int) -> tuple[list[Any] | None, int]:
    if count < 0:
        return None, at
    items: list[Any] = []
    find = raw.index
    for _ in range(count):
        if raw[at] == BULK and raw[at + 1] != REFUSAL:  # what comes by the million; not $-1
            stop = find(END, at)
            start = stop + 2
            at = start + int(raw[at + 1 : stop])
            items.append(raw[start:at])
            at += 2
        else:
            item, at = _reply(raw, at)
            items.append(item)
    return items, at
