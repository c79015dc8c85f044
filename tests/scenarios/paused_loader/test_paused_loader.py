"""A load worker stopped in mid-chunk and woken when the stream has long begun writes nothing any more."""

from __future__ import annotations

import time

from tests.halting import halt
from tests.run_keyferry import Keyferry, Line
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal
from tests.servers import Server, StartServer
from tests.slow import RAW, bulk

KEYS = 40_000


def catch_in_mid_chunk(run: Keyferry, target: Server) -> Line:
    """Pause the target while a loader is in the middle of a chunk; the chunk's row."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if any(chunk["state"] == "running" for chunk in run.chunks()):
            target.pause()
            time.sleep(0.3)
            for chunk in run.chunks():
                if chunk["state"] == "running":
                    return chunk
            target.resume()
        time.sleep(0.02)
    raise AssertionError(f"no chunk was caught\n{run.report()}")


def test_it_wakes_up_late(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    bulk(source, KEYS)  # nothing else, so that whatever chunk is caught is of it

    run = ferry(source, target, load_workers=2)
    held = catch_in_mid_chunk(run, target)
    sleeper = next(p for p in run.find("load worker", child=True) if f":{p.pid}:" in held["owner"])
    halt(sleeper, run.state / "keyferry.db")
    target.resume()
    run.wait_in_sync(timeout=90)
    assert next(c for c in run.chunks() if c["id"] == held["id"])["epoch"] > held["epoch"], "nobody took it over"

    # What the sleeper would write again is no longer so.
    client = source.client(db=2)
    for at in range(0, KEYS, 1000):
        client.mset({f"key:{i}": "new" for i in range(at, at + 1000)})
    client.delete(*(f"key:{i}" for i in range(0, KEYS, 7)))
    run.settle(source)
    sleeper.resume()
    time.sleep(3)

    run.settle(source)
    equal(source, target)
    assert run.stop() == 130
