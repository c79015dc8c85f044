"""Servers and Sentinels that answer with what they were given, for tests of who is asked and believed."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack


class Says:
    """A server that answers each kind of command with fixed bytes; what it has been told."""

    def __init__(self, **answers: bytes) -> None:
        self.answers, self.told = {"AUTH": b"+OK\r\n", "SELECT": b"+OK\r\n", **answers}, b""
        self.also: dict[str, bytes] = {}  # by the second word
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(one,), daemon=True).start()

    def _talk(self, one: socket.socket) -> None:
        with one:
            while data := one.recv(4096):
                self.told += data
                words = [word.decode() for word in data.split(b"\r\n")[2::2]]
                known = self.answers.get(words[0].upper(), b"-ERR unknown command\r\n")
                one.sendall(self.also.get(words[1].upper(), known) if len(words) > 1 else known)

    def close(self) -> None:
        self._listener.close()


class Hall:
    """Makes them; all end with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def says(self, **answers: bytes) -> Says:
        made = Says(**answers)
        self._stack.callback(made.close)
        return made

    def server(self, role: object = "master", **fields: object) -> Says:
        """`fields`: more of its INFO replication."""
        lines = "".join(f"{name}:{value}\r\n" for name, value in fields.items())
        text = f"# Replication\r\nrole:{role}\r\n{lines}".encode()
        return self.says(INFO=b"$%d\r\n%s\r\n" % (len(text), text))

    def sentinel(self, server: Says | None) -> Says:
        if server is None:
            return self.says(SENTINEL=b"*-1\r\n")
        port = str(server.port).encode()
        return self.says(SENTINEL=b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(port), port))
