"""SIGKILL of the stream worker, in full sync and in follow: another goes on at the byte it had committed."""

from __future__ import annotations

import time

import pytest

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import RAW, bulk
from tests.traffic import Traffic


@pytest.mark.parametrize("child", [True, False], ids=["pool child", "whole worker"])
@pytest.mark.parametrize("kind", ["redis-6.2", "valkey-9.1"])
def test_in_follow(kind: str, child: bool, server: StartServer, ferry: StartFerry) -> None:
    source, target = server(kind), server(kind)
    fill(source.client(), 1000)

    with Traffic(source, clients=4, rate=3000):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        for _time in range(4):
            time.sleep(1.0)
            run.kill("stream worker", child=child)
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 1


def test_in_full_sync(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 1000)
    bulk(source, 50_000)

    with Traffic(source, clients=4, rate=2000):
        run = ferry(source, target)
        for pause in (0.1, 0.5, 1.0):
            run.wait_for(lambda line: line["keys_done"] is not None, what="a snapshot begun")
            time.sleep(pause)
            run.kill("stream worker", child=True)
        run.wait_phase("synchronizing", timeout=90)
    run.settle(source)

    equal(source, target)
