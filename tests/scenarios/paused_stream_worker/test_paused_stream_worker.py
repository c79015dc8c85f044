"""Two owners of one stream: the older, stopped until its lease was given away, writes nothing once awake."""

from __future__ import annotations

import time

from tests.dataset import fill
from tests.halting import halt
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.traffic import Traffic
from tests.waiting import until


def test_it_wakes_up_late(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)

    with Traffic(source, clients=4, rate=3000, mix="exact"):
        run = ferry(source, target)
        line = run.wait_phase("synchronizing")
        epoch = line["nodes"][0]["epoch"]
        time.sleep(1)
        sleeper = run.one("stream worker", child=True)
        halt(sleeper, run.state / "keyferry.db")
        lease = "SELECT owner, epoch FROM lease WHERE name LIKE 'node:%'"
        held = run.rows(lease)
        until(lambda: run.rows(lease) != held, "its lease is taken away", 60)
        sleeper.resume()
        run.wait_for(lambda line: line["nodes"] and line["nodes"][0]["epoch"] > epoch, what="a new owner")
        time.sleep(2)
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 1
