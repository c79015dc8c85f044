"""A network between us and a server: a TCP proxy that can keep the bytes of one connection, and deliver them late, and
that can lead to another server, as an address does after a failover.

What a killed process has sent may still arrive, after its successor has begun: nobody can take it back.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType

from tests.servers import Server

SIZE = 1 << 16


class Connection:
    """One connection through the proxy. Once `held`, what the client sends is kept."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.held = threading.Event()
        self.kept = bytearray()
        self.done = threading.Event()  # the client will send no more
        self.lock = threading.Lock()

    def forward(self, hold_at: Callable[[Connection, bytes], bool]) -> None:
        """Client to server, until the client's end; then the server's side stays open if anything is kept."""
        with contextlib.suppress(OSError):
            while data := self.client.recv(SIZE):
                with self.lock:
                    if not self.held.is_set() and hold_at(self, data):
                        self.held.set()
                    if self.held.is_set():
                        self.kept += data
                    else:
                        self.server.sendall(data)
        self.done.set()
        if not self.held.is_set():
            self.close()

    def backward(self) -> None:
        """Server to client; answers to a client that is gone are nobody's."""
        with contextlib.suppress(OSError):
            while data := self.server.recv(SIZE):
                with contextlib.suppress(OSError):
                    self.client.sendall(data)
        self.close()

    def release(self) -> int:
        """Deliver what was kept, and everything that follows; how many bytes were kept."""
        with self.lock:
            late = len(self.kept)
            self.server.sendall(self.kept)
            self.kept.clear()
            self.held.clear()
        return late

    def close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """In front of one server, on a port of its own. As a context manager it ends with the block."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.connections: list[Connection] = []
        self.found: Connection | None = None  # the held one
        self._pattern: bytes | None = None
        self._caught = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self.listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.server.port))
                except ConnectionRefusedError:
                    client.close()
                    continue
                connection = Connection(client, server)
                self.connections.append(connection)
                threading.Thread(target=connection.forward, args=(self._hold_at,), daemon=True).start()
                threading.Thread(target=connection.backward, daemon=True).start()

    def lead_to(self, server: Server) -> None:
        """From now on to another server; what is open is cut."""
        self.server = server
        self.cut()

    def cut(self) -> None:
        """End every connection."""
        for connection in self.connections:
            connection.close()

    def hold(self, pattern: bytes, timeout: float = 30.0) -> Connection:
        """Keep back what one connection sends, beginning with bytes in which `pattern` occurs."""
        self.found = None
        self._caught.clear()
        self._pattern = pattern
        assert self._caught.wait(timeout), f"nothing with {pattern!r} was sent"
        assert self.found is not None
        return self.found

    def _hold_at(self, connection: Connection, data: bytes) -> bool:
        if self._pattern is None or self._pattern not in data:
            return False
        self._pattern = None
        self.found = connection
        self._caught.set()
        return True

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.listener.close()
        self.cut()
