"""A pipelined connection to a server: commands and their replies. The bytes go over a `Wire`."""

from __future__ import annotations

from typing import Any

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from workers.aside import Aside
from workers.codec.resp_cy import ReplyError, encode, parse
from workers.wire import SILENCE_S, Wire


class Link:
    """A raw connection, authenticated and named, in a database. `at`: the server's address.

    Args:
        endpoint: the server.
        name: what CLIENT LIST shows.
        db: the database to begin in.
        silence_s: a server that says nothing for so long when asked is lost.
    Raises KeyferryError: as `answers.classify` says.
    """

    def __init__(self, endpoint: Endpoint, name: str, db: int, silence_s: float = SILENCE_S) -> None:
        self.endpoint, self._side = endpoint, endpoint.side
        self._wire = Wire(endpoint, silence_s)
        # The hot path calls them for each window.
        self.send, self.write, self.receive, self.ready = (
            self._wire.send, self._wire.write, self._wire.receive, self._wire.ready,
        )  # fmt: skip
        self.at = self._wire.at
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

    def try_all(self, commands: list[list[bytes | int]], aside: Aside | None = None) -> list[Any]:
        """The same with error replies as values. `aside`: takes long values out of the replies."""
        self.send(b"".join(encode(argv) for argv in commands))
        data, pos = self._in, 0
        values: list[Any] = []
        while len(values) < len(commands):
            value, end = parse(data, pos)
            if end < 0:
                more = self.receive()
                data, pos = data[pos:] + (more if aside is None else aside.feed(more)), 0
                continue
            values.append(value)
            pos = end
        self._in = data[pos:]
        return values

    def close(self) -> None:
        self._wire.close()
