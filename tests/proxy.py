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
    """One connection through the proxy. Once `held`, what the client sends is kept.

    Args:
        client, server: its two ends.
        life: bytes, of both directions together, after which it is cut; None: never.
    """

    def __init__(self, client: socket.socket, server: socket.socket, life: int | None = None) -> None:
        self.client, self.server = client, server
        self.life, self.cut = life, False
        self.doomed: dict[socket.socket, int] = {}  # bytes that it may still carry to an end
        self.held = threading.Event()
        self.kept = bytearray()
        self.done = threading.Event()  # the client will send no more
        self.lock = threading.Lock()
        self.closed = False

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
                        self._pass(data, self.server)
        self.done.set()
        if not self.held.is_set():
            self.close()

    def backward(self) -> None:
        """Server to client; answers to a client that is gone are nobody's."""
        with contextlib.suppress(OSError):
            while data := self.server.recv(SIZE):
                with contextlib.suppress(OSError):
                    self._pass(data, self.client)
        self.close()

    def _pass(self, data: bytes, end: socket.socket) -> None:
        """As much as the connection still has to live for."""
        left = min((rest for rest in (self.life, self.doomed.get(end)) if rest is not None), default=len(data))
        end.sendall(data[: max(0, left)])
        if self.life is not None:
            self.life -= len(data)
        if end in self.doomed:
            self.doomed[end] -= len(data)
        if left < len(data):
            self.cut = True
            self.close()

    def doom(self, towards: str, size: int) -> None:
        """Cut it once it has carried `size` more bytes, and not one more, towards the "server" or towards "us"."""
        self.doomed[self.server if towards == "server" else self.client] = size

    @property
    def alive(self) -> bool:
        """Whether neither end nor we have closed it."""
        return not self.closed

    def release(self) -> int:
        """Deliver what was kept, and everything that follows; how many bytes were kept."""
        with self.lock:
            late = len(self.kept)
            self.server.sendall(self.kept)
            self.kept.clear()
            self.held.clear()
        return late

    def close(self) -> None:
        self.closed = True
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """In front of one server, on a port of its own. As a context manager it ends with the block.

    Args:
        server: where it leads to.
        life: called for each connection: after how many bytes it is cut, or None.
    """

    def __init__(self, server: Server, life: Callable[[], int | None] = lambda: None) -> None:
        self.server, self.life = server, life
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
                connection = Connection(client, server, self.life())
                self.connections.append(connection)
                threading.Thread(target=connection.forward, args=(self._hold_at,), daemon=True).start()
                threading.Thread(target=connection.backward, daemon=True).start()

    def lead_to(self, server: Server) -> None:
        """From now on to another server; what is open is cut."""
        self.server = server
        self.end_all()

    def end_all(self) -> None:
        """End every connection."""
        for connection in self.connections:
            connection.close()

    @property
    def cuts(self) -> int:
        """Connections that were cut in mid-life."""
        return sum(connection.cut for connection in self.connections)

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
        self.end_all()
