"""SIGKILL of every process at random moments; the same command on the same state directory goes on."""

from __future__ import annotations

import random
import time

import pytest

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import RAW, assert_mid_load, bulk, in_mid_load, slowed
from tests.traffic import Traffic


@pytest.mark.parametrize("seed", [1, 2])
def test_in_full_sync(seed: int, server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 1000)
    bulk(source, 4000, 30_000)
    rng = random.Random(seed)

    with Traffic(source, clients=2, rate=1000, seed=seed):
        with slowed(target):
            for _time in range(2):
                run = ferry(source, target)
                run.wait_for(in_mid_load, what="some keys loaded")
                time.sleep(rng.uniform(0.0, 0.5))
                run.kill_tree(rng)
                assert_mid_load(run)
        run = ferry(source, target)
        run.wait_phase("synchronizing", timeout=90)
    run.settle(source)

    equal(source, target)


@pytest.mark.parametrize("kind", ["redis-6.2", "redis-7.0", "valkey-9.1"])
def test_in_follow(kind: str, server: StartServer, ferry: StartFerry) -> None:
    source, target = server(kind), server(kind)
    fill(source.client(), 1000)
    rng = random.Random(kind)

    with Traffic(source, clients=4, rate=2000):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        for _time in range(4):
            time.sleep(rng.uniform(0.2, 3.0))
            run.kill_tree(rng)
            run = ferry(source, target)
        run.wait_phase("synchronizing")
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 1, "it went on from its log and the backlog"


def test_while_the_source_is_idle(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)
    rng = random.Random(3)
    run = ferry(source, target)
    run.wait_in_sync()
    for number in range(4):
        time.sleep(rng.uniform(0.0, 1.0))
        run.kill_tree(rng)
        source.client().incr("between kills", number + 1)
        run = ferry(source, target)
        run.settle(source)

    assert target.client().get("between kills") == b"10"
    equal(source, target)
    assert snapshots(source) == 1
