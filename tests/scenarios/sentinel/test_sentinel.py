"""Source and target by the names that Sentinels know them by: both masters die under traffic, and replicas follow."""

from __future__ import annotations

import time

import pytest

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal
from tests.sentinels import Sentinels
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1", "redis-6.2"])
def test_both_sides_fail_over(kind: str, ferry: StartFerry) -> None:
    with Sentinels(kind, "orders", "bills") as sentinels:
        source, target = sentinels["orders"], sentinels["bills"]
        fill(source.client(), 300)
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        with Traffic(source.master, clients=2, rate=1000):
            time.sleep(0.5)
            source.fail_over()
        run.settle(source)
        with Traffic(source.master, clients=2, rate=1000, seed=2):
            time.sleep(0.5)
            target.fail_over()
            before = run.last["applied_offset"] or 0
            run.wait_for(lambda line: (line["applied_offset"] or 0) > before and not line["retry"], what="it goes on")
            time.sleep(0.5)
        run.settle(source)
        equal(source.master, target.master)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_master_that_was_replaced_and_knows_nothing_of_it(side: str, ferry: StartFerry, server: StartServer) -> None:
    """Stopped for a while it comes back as the master that it was, and cannot be told: its clients have to leave."""
    with Sentinels("redis-7.0", "orders") as sentinels:
        named, other = sentinels["orders"], server("redis-7.0")
        run = ferry(named, other) if side == "source" else ferry(other, named)
        source = named if side == "source" else other
        source.client().incr("counted")
        run.settle(source)
        named.linked()
        former = named.master
        deaf(former)
        former.pause()
        named.heir()
        former.resume()
        assert former.client().info("replication")["role"] == "master"
        source.client().incr("counted")
        run.settle(source)
        target = other if side == "source" else named
        until(lambda: target.client().get("counted") == b"2", "it is there")
        assert former.client().info("replication")["role"] == "master", "else this has tested nothing"


def deaf(server: Server) -> None:
    """It obeys no REPLICAOF any more."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-replicaof", "-slaveof", "-config|rewrite")
