"""The target loses what it had, the checkpoint too: it is loaded anew, over whatever is there, in place."""

from __future__ import annotations

import time

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.traffic import Traffic


def test_it_restarts_without_its_data(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)

    with Traffic(source, clients=4, rate=1000):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(1)
        target.kill()
        target.start()
        run.wait_phase("initializing")
        run.wait_phase("synchronizing")
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 2


def test_somebody_flushes_it(server: StartServer, ferry: StartFerry) -> None:
    """In follow, in the middle of the load that follows, and while nothing of ours runs."""
    source, target = server("valkey-9.1"), server("valkey-9.1")
    fill(source.client(), 1000)

    with Traffic(source, clients=4, rate=1000):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(1)
        target.client().flushall()
        run.wait_phase("initializing")
        target.client().flushall()
        run.wait_phase("synchronizing")
        time.sleep(1)
        run.kill_tree()
        target.client().flushall()
        run = ferry(source, target)
        run.wait_phase("initializing")
        run.wait_phase("synchronizing")
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 3
