"""A source that is a real server to everybody, until somebody says PSYNC: then it sends what a test says."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from types import TracebackType

from tests.servers import Server

REPLID = b"5" * 40
FULL = b"+FULLRESYNC " + REPLID + b" 100\r\n"
MARK = b"m" * 40
SIZE = 1 << 16
WAIT_S = 20.0


class FakeSource:
    """Listens on the loopback address, a thread for each connection.

    Args:
        server: whose answers everything but PSYNC gets.
        script: what follows PSYNC: bytes that are sent, and functions that are called when their turn comes.
        stays: the link stays open behind the script.
    """

    def __init__(self, server: Server, *script: bytes | Callable[[], object], stays: bool = True) -> None:
        self._server, self._script, self._stays = server, script, stays
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self) -> FakeSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server = socket.create_connection(("127.0.0.1", self._server.port))
                self._open += [client, server]
                threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError), client, server:
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if server in ready:
                    client.sendall(server.recv(SIZE))
                if client in ready:
                    asked = client.recv(SIZE)
                    if not asked:
                        return
                    if b"PSYNC" in asked:
                        self._play(client)
                        return
                    server.sendall(asked)

    def _play(self, client: socket.socket) -> None:
        for part in self._script:
            if isinstance(part, bytes):
                client.sendall(part)
            else:
                part()
        while self._stays and client.recv(SIZE):
            pass  # acknowledgements
