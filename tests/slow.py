"""A load that takes its time: data by the hundred megabytes in few keys, a target stopped most of the time, a source
that dawdles over its snapshot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.run_keyferry import Keyferry, Line
from tests.servers import Server

RAW = {"rdbcompression": "no"}  # for a source whose bulk should reach us in full size
DAWDLING = {**RAW, "rdb-key-save-delay": "250"}  # µs for each key that it writes to its snapshot
VALUE = 4000  # bytes
PERIOD_S = 0.2


def bulk(server: Server, keys: int, size: int = VALUE) -> None:
    """Put so many values of `size` bytes into database 2, named key:0 and so on."""
    server.client(db=2).execute_command("DEBUG", "POPULATE", keys, "key", size)


@contextmanager
def slowed(server: Server, share: float = 0.1) -> Iterator[None]:
    """Within the block the server runs for a share of the time, by SIGSTOP and SIGCONT."""
    ended = threading.Event()

    def alternate() -> None:
        while not ended.is_set():
            server.pause()
            ended.wait(PERIOD_S * (1 - share))
            server.resume()
            ended.wait(PERIOD_S * share)

    thread = threading.Thread(target=alternate, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)
        server.resume()


def in_mid_load(line: Line) -> bool:
    """Whether some keys of the snapshot are loaded, and by far not all."""
    return line["phase"] == "initializing" and 0 < line["keys_done"] < (line["keys_total"] or 0) / 2


def assert_mid_load(run: Keyferry) -> None:
    """What was just killed left a snapshot that was loaded in part."""
    assert run.last["phase"] == "initializing", "the load was over before the kill"
    chunks = run.chunks()
    if all(chunk["state"] == "void" for chunk in chunks):
        return  # the next owner has begun another snapshot already
    loaded = sum(chunk["keys_done"] for chunk in chunks if chunk["state"] != "void")
    assert 0 < loaded < run.last["keys_total"]
