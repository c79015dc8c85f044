"""The target goes away and comes back: with all it had, or with what it had saved some time before."""

from __future__ import annotations

import time

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.traffic import Traffic


def test_with_its_data(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)

    with Traffic(source, clients=4, rate=2000):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(1)
        target.stop(save=True)
        run.wait_retry("target")
        target.start()
        run.wait_for(lambda line: line["retry"] is None, 45, what="no retry window")
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 1


def test_without_its_last_second(server: StartServer, ferry: StartFerry) -> None:
    """Data and checkpoint roll back together; the log on disk still has what is missing."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)

    with Traffic(source, clients=4, rate=2000):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(1)
        target.client().save()
        time.sleep(1)
        target.kill()
        time.sleep(0.5)
        target.start()
        time.sleep(1)
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 1
