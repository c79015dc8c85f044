"""A source 7.0 restarted with SHUTDOWN SAVE knows its replication id and offset: the stream goes on."""

from __future__ import annotations

import time

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.traffic import Traffic


def test_no_new_snapshot(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config={"shutdown-timeout": "2"}), server("redis-7.0")
    fill(source.client(), 1000)

    with Traffic(source, clients=4, rate=2000):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(1)
        source.stop(save=True)
        run.wait_retry("source")
        source.start()
        run.wait_for(lambda line: line["retry"] is None, 45, what="no retry window")
        time.sleep(1)
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 0, "since its restart the source sent no snapshot"
