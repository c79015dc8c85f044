"""How long a server lets another client wait, as that client sees it: a process of its own that says PING each ms."""

from __future__ import annotations

import multiprocessing
import socket
import time
from multiprocessing.connection import Connection

PAUSE_S = 0.001
STOP_S = 30.0


class Stalls:
    """Watched from now on, until `end`.

    Args:
        port: of the server on this machine.
    """

    def __init__(self, port: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._here, there = spawn.Pipe()
        self._process = spawn.Process(target=_ping, args=(port, there), daemon=True)
        self._process.start()
        self._here.recv()  # it has begun

    def end(self) -> tuple[float, float]:
        """The longest wait for an answer, and by how much that client itself was woken too late at worst, in ms."""
        self._here.send(None)
        longest, late = self._here.recv()
        self._process.join(STOP_S)
        return 1000 * longest, 1000 * late


def _ping(port: int, control: Connection) -> None:
    longest = late = 0.0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        control.send(None)
        while not control.poll():
            asked = time.perf_counter()
            connection.sendall(b"PING\r\n")
            connection.recv(64)
            answered = time.perf_counter()
            time.sleep(PAUSE_S)
            longest, late = max(longest, answered - asked), max(late, time.perf_counter() - answered - PAUSE_S)
    control.send((longest, late))
