"""The socket of a connection to the target. What is said over it is the link's, and can be tried without."""

from __future__ import annotations

import contextlib
import select
import socket

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, Side

RECV_BYTES = 256 << 10
SEND_BYTES = 1 << 20
SILENCE_S = 30.0


def lost(what: str) -> ConnectionLost:
    return ConnectionLost(what, side=Side.TARGET, hint="Keyferry connects again by itself")


class Wire:
    """A connected socket; nothing else of a link touches it.

    Args:
        endpoint: the target node.
    Every method but `close` raises ConnectionLost.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        try:
            self._socket = endpoint.open_socket(10.0)
            self._socket.settimeout(SILENCE_S)
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        except OSError as e:
            raise classify(e, Side.TARGET) from e

    def send(self, data: bytes | bytearray) -> None:
        """Write everything, blocking."""
        try:
            self._socket.sendall(data)
        except OSError as e:
            raise classify(e, Side.TARGET) from e

    def write(self, data: bytearray) -> int:
        """Write as much as fits now; how many bytes."""
        try:
            return self._socket.send(memoryview(data)[:SEND_BYTES])
        except OSError as e:
            raise classify(e, Side.TARGET) from e

    def receive(self) -> bytes:
        """Whatever has come, at least a byte; blocks up to SILENCE_S."""
        try:
            data = self._socket.recv(RECV_BYTES)
        except TimeoutError as e:
            raise lost(f"the target has been silent for {SILENCE_S:.0f} s") from e
        except OSError as e:
            raise classify(e, Side.TARGET) from e
        if not data:
            raise lost("the target closed the connection")
        return data

    def ready(self, timeout_s: float, *, write: bool = False) -> tuple[bool, bool]:
        """Whether there is something to read, and room to write (asked only with `write`)."""
        pending = getattr(self._socket, "pending", None)  # TLS: bytes already decrypted
        if pending is not None and pending():
            return True, False
        poller = select.poll()
        poller.register(self._socket, select.POLLIN | (select.POLLOUT if write else 0))
        for _, event in poller.poll(timeout_s * 1000):
            return bool(event & ~select.POLLOUT), bool(event & select.POLLOUT)
        return False, False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()
