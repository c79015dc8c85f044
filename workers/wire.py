"""The socket of a connection to a server. What is said over it is `workers.link`'s, and can be tried without."""

from __future__ import annotations

import contextlib
import select
import socket

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost

RECV_BYTES = 256 << 10
SEND_BYTES = 1 << 20
WAKE_BYTES = 64 << 10
CONNECT_S = 10.0
SILENCE_S = 30.0


class Wire:
    """A connected socket; nothing else of a link touches it. `at`: the address that it leads to.

    Args:
        endpoint: the server.
        silence_s: a server that says nothing for so long when asked is lost.
    Every method but `close` raises ConnectionLost.
    """

    def __init__(self, endpoint: Endpoint, silence_s: float = SILENCE_S) -> None:
        self._side, self._silence_s = endpoint.side, silence_s
        try:
            server = endpoint.now()
            self.at = server.address()
            self._socket = server.open_socket(CONNECT_S)
            self._socket.settimeout(silence_s)
            self._least = 1
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        except OSError as e:
            raise classify(e, self._side) from e

    def send(self, data: bytes | bytearray) -> None:
        """Write everything, blocking."""
        try:
            self._socket.sendall(data)
        except OSError as e:
            raise classify(e, self._side) from e

    def write(self, data: bytearray) -> int:
        """Write as much as fits now; how many bytes."""
        try:
            return self._socket.send(memoryview(data)[:SEND_BYTES])
        except OSError as e:
            raise classify(e, self._side) from e

    def receive(self) -> bytes:
        """Whatever has come, at least a byte; blocks up to `silence_s`."""
        try:
            self._wake_at(1)
            data = self._socket.recv(RECV_BYTES)
        except TimeoutError as e:
            raise self._lost(f"has been silent for {self._silence_s:.0f} s") from e
        except OSError as e:
            raise classify(e, self._side) from e
        if not data:
            raise self._lost("closed the connection")
        return data

    def ready(self, timeout_s: float, *, write: bool = False, least: int = 1) -> tuple[bool, bool]:
        """Whether there is something to read, and room to write (asked only with `write`).

        Args:
            least: bytes; fewer to read are not worth waking up for. An end of the connection is.
        """
        pending = getattr(self._socket, "pending", None)  # TLS: bytes already decrypted
        if pending is not None and pending():
            return True, False
        poller = select.poll()
        poller.register(self._socket, select.POLLIN | (select.POLLOUT if write else 0))
        self._wake_at(min(least, WAKE_BYTES))
        for _, event in poller.poll(timeout_s * 1000):
            return bool(event & ~select.POLLOUT), bool(event & select.POLLOUT)
        return False, False

    def _wake_at(self, least: int) -> None:
        """Bytes to have before anybody who waits for the socket is woken; a blocking read waits for them, too."""
        if least != self._least:
            with contextlib.suppress(OSError):  # a wish; what is wrong with the socket is told by the next read
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
            self._least = least

    def _lost(self, what: str) -> ConnectionLost:
        hint = "Keyferry connects again by itself"
        return ConnectionLost(f"the {self._side.value} {what}", side=self._side, hint=hint)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()
