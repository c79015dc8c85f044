"""A load worker stopped in mid-chunk and woken when the stream has long begun writes nothing any more."""

from __future__ import annotations

import time

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal
from tests.servers import StartServer
from tests.slow import RAW, bulk

KEYS = 40_000


def test_it_wakes_up_late(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 1000)
    bulk(source, KEYS)

    run = ferry(source, target, load_workers=2)
    run.wait_for(lambda line: line["keys_done"], what="a first chunk's keys")
    target.pause()  # whatever the loaders are at, they are in the middle of it
    time.sleep(0.3)
    held = next(chunk for chunk in run.chunks() if chunk["state"] == "running")
    sleeper = next(p for p in run.find("load worker", child=True) if f":{p.pid}:" in held["owner"])
    sleeper.suspend()
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
