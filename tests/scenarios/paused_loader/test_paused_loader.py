"""A load worker stopped in mid-chunk and woken when the stream has long begun writes nothing any more."""

from __future__ import annotations

import time

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal
from tests.servers import StartServer

KEYS = 150_000


def test_it_wakes_up_late(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)
    source.client(db=2).execute_command("DEBUG", "POPULATE", KEYS, "key", 300)

    run = ferry(source, target, load_workers=2)
    run.wait_for(lambda line: line["keys_done"], what="a first chunk's keys")
    target.pause()  # whatever the loaders are at, they are in the middle of it
    time.sleep(0.3)
    sleeper = run.one("load worker", child=True)
    sleeper.suspend()
    target.resume()
    run.wait_in_sync(timeout=90)

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
