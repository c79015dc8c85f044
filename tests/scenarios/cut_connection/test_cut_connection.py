"""Connections are cut, either side, at moments nobody chose: each is made again, and nothing counts twice."""

from __future__ import annotations

import random
import time

import pytest

from tests.dataset import fill
from tests.proxy import Proxy
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.traffic import Traffic

CUT_S = 12.0


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


@pytest.mark.parametrize(("side", "kind"), [("source", "valkey-9.1"), ("target", "redis-7.0")])
def test_at_a_random_byte(side: str, kind: str, server: StartServer, ferry: StartFerry) -> None:
    """In mid-command, mid-answer, mid-snapshot: whatever byte is the last one, in either direction."""
    source, target = server(kind), server(kind)
    fill(source.client(), 300)
    rng = random.Random(side)
    with Proxy(source if side == "source" else target) as proxy:
        run = ferry(proxy, target) if side == "source" else ferry(source, proxy)
        run.wait_phase("initializing", "synchronizing")  # before, a cut is an answer: it cannot be reached
        proxy.life = lambda: int(10 ** rng.uniform(2.0, 5.7))
        proxy.end_all()
        with Traffic(source, clients=4, rate=3000):
            cut_until = time.monotonic() + CUT_S
            while time.monotonic() < cut_until:
                time.sleep(0.2)
                assert run.alive, run.errors
        proxy.life = lambda: None
        proxy.end_all()
        run.settle(source)
        assert proxy.cuts >= 5, proxy.cuts
        equal(source, target)
