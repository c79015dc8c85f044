"""A server made slow from outside: stopped most of the time, as by a busy neighbour."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers import Server

STOPPED_S, RUNNING_S = 0.18, 0.02


@contextmanager
def slowed(server: Server) -> Iterator[None]:
    """Within the block the server runs for a tenth of the time, by SIGSTOP and SIGCONT."""
    ended = threading.Event()

    def alternate() -> None:
        while not ended.is_set():
            server.pause()
            ended.wait(STOPPED_S)
            server.resume()
            ended.wait(RUNNING_S)

    thread = threading.Thread(target=alternate, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)
        server.resume()
