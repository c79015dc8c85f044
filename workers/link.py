"""A pipelined connection to a server: bytes out, bytes in, no more."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost
from workers.codec.resp_cy import ReplyError, encode, parse

RECV_BYTES = 256 << 10
CONNECT_S = 10.0
SILENCE_S = 30.0


class Link:
    """A raw connection, authenticated and named, in a database.

    Args:
        endpoint: the server.
        name: what CLIENT LIST shows.
        db: the database to begin in.
        silence_s: a server that says nothing for so long when asked is lost.
    Raises KeyferryError: as `answers.classify` says.
    """

    def __init__(self, endpoint: Endpoint, name: str, db: int, silence_s: float = SILENCE_S) -> None:
        self._side, self._silence_s = endpoint.side, silence_s
        try:
            self.socket = endpoint.open_socket(CONNECT_S)
            self.socket.settimeout(silence_s)
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        except OSError as e:
            raise classify(e, self._side) from e
        self._in = b""
        try:
            for command in endpoint.auth_commands():
                self.ask(*command)
            self.try_all([[b"CLIENT", b"SETNAME", name.encode()]])  # who may not do so works without a name
            if db:
                self.ask(b"SELECT", db)
        except BaseException:
            self.close()
            raise

    def send(self, data: bytes | bytearray) -> None:
        """Write everything, blocking."""
        try:
            self.socket.sendall(data)
        except OSError as e:
            raise classify(e, self._side) from e

    def receive(self) -> bytes:
        """Whatever has come, at least a byte; blocks up to `silence_s`."""
        try:
            data = self.socket.recv(RECV_BYTES)
        except TimeoutError as e:
            raise self._lost(f"has been silent for {self._silence_s:.0f} s") from e
        except OSError as e:
            raise classify(e, self._side) from e
        if not data:
            raise self._lost("closed the connection")
        return data

    def ask(self, *argv: bytes | int) -> Any:
        """One command and its reply as Python values. Raises the typed error of an error reply."""
        return self.ask_all([list(argv)])[0]

    def ask_all(self, commands: list[list[bytes | int]]) -> list[Any]:
        """Commands in one go; their replies. Raises the typed error of the first error reply."""
        values = self.try_all(commands)
        for value in values:
            if isinstance(value, ReplyError):
                raise classify(value.line, self._side)
        return values

    def try_all(self, commands: list[list[bytes | int]]) -> list[Any]:
        """The same with error replies as values."""
        self.send(b"".join(encode(argv) for argv in commands))
        data, pos = self._in, 0
        values: list[Any] = []
        while len(values) < len(commands):
            value, end = parse(data, pos)
            if end < 0:
                data, pos = data[pos:] + self.receive(), 0
                continue
            values.append(value)
            pos = end
        self._in = data[pos:]
        return values

    def ready(self, timeout_s: float, *, write: bool = False) -> tuple[bool, bool]:
        """Whether there is something to read, and room to write (asked only with `write`)."""
        pending = getattr(self.socket, "pending", None)  # TLS: bytes already decrypted
        if pending is not None and pending():
            return True, False
        poller = select.poll()
        poller.register(self.socket, select.POLLIN | (select.POLLOUT if write else 0))
        for _, event in poller.poll(timeout_s * 1000):
            return bool(event & ~select.POLLOUT), bool(event & select.POLLOUT)
        return False, False

    def _lost(self, what: str) -> ConnectionLost:
        hint = "Keyferry connects again by itself"
        return ConnectionLost(f"the {self._side.value} {what}", side=self._side, hint=hint)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()
