"""Connections are cut, either side, at moments nobody chose: each is made again, and nothing counts twice."""

from __future__ import annotations

import random
import time

import pytest

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.traffic import Traffic


def cut_source(source: Server, target: Server) -> int:
    return int(source.client().execute_command("CLIENT", "KILL", "TYPE", "replica"))


def cut_target(source: Server, target: Server) -> int:
    return int(target.client().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))


@pytest.mark.parametrize("cut", [cut_source, cut_target])
def test_in_follow(cut: object, server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)
    rng = random.Random(5)
    cuts = 0

    with Traffic(source, clients=4, rate=3000):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        for _time in range(8):
            time.sleep(rng.uniform(0.1, 1.0))
            cuts += cut(source, target)  # type: ignore[operator]
    run.settle(source)

    assert cuts >= 3
    equal(source, target)
    assert snapshots(source) == 1
