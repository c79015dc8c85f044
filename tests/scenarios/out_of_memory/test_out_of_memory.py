"""The target is out of memory under noeviction: nothing of a window is lost, and all goes on when there is room."""

from __future__ import annotations

import time

import pytest

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.traffic import Traffic


@pytest.mark.parametrize("kind", ["redis-6.2", "redis-7.0", "valkey-9.1"])
def test_in_follow(kind: str, server: StartServer, ferry: StartFerry) -> None:
    source, target = server(kind), server(kind)
    fill(source.client(), 500)
    with Traffic(source, clients=4, rate=2000), target.client() as client:
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        for _time in range(3):
            time.sleep(1)
            client.config_set("maxmemory", client.info("memory")["used_memory"] - 100_000)
            line = run.wait_retry("target")
            assert "OOM" in line["retry"]["last_error"]
            time.sleep(1)
            client.config_set("maxmemory", 0)
            run.wait_for(lambda line: line["retry"] is None, 45, what="no retry window")
    run.settle(source)
    equal(source, target)
    assert snapshots(source) == 1


def test_in_full_sync(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0", config={"maxmemory": "3mb"})
    fill(source.client(), 500)
    source.client(db=2).execute_command("DEBUG", "POPULATE", 5000, "key", 2000)
    run = ferry(source, target)
    line = run.wait_retry("target")
    assert "OOM" in line["retry"]["last_error"]
    target.client().config_set("maxmemory", 0)
    run.settle(source)
    equal(source, target)
    assert snapshots(source) == 1
