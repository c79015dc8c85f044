"""SIGKILL of load workers in mid-load: the chunk is loaded again, and nothing is lost or doubled."""

from __future__ import annotations

import time

import pytest

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import RAW, bulk, slowed
from tests.traffic import Traffic


@pytest.mark.parametrize("child", [True, False], ids=["pool child", "whole worker"])
def test_the_chunk_is_loaded_again(child: bool, server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 1000)
    bulk(source, 50_000)

    with Traffic(source, clients=2, rate=1000), slowed(target):
        run = ferry(source, target)
        run.wait_for(lambda line: line["keys_done"], what="a first chunk's keys")
        for _time in range(3):
            run.kill("load worker", child=child)
            time.sleep(1.5)
        assert run.last["phase"] == "initializing", "the load was over before the last kill"
    run.wait_phase("synchronizing", timeout=90)
    run.settle(source)

    assert any(chunk["epoch"] > 1 for chunk in run.chunks()), "no kill has hit a chunk"
    equal(source, target)
    assert snapshots(source) == 1
