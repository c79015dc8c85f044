"""The source hands over to its replica, which knows our stream by its second replication id; what it takes us for."""

from __future__ import annotations

import time

import pytest

from tests.dataset import fill
from tests.proxy import Proxy
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.scenarios.target_failover.test_target_failover import replicate
from tests.servers import StartServer
from tests.traffic import Traffic
from tests.waiting import until


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1"])  # a replica of 6.2 has other expiries than its master
def test_failover_to_its_replica(kind: str, server: StartServer, ferry: StartFerry) -> None:
    """No new snapshot: the promoted replica continues from our offset."""
    first, second, target = server(kind), server(kind), server(kind)
    fill(first.client(), 500)
    replicate(first, second)
    with Proxy(first) as source:
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        with Traffic(first, clients=2, rate=1000):
            time.sleep(1)
        first.client().execute_command("FAILOVER", "TO", "127.0.0.1", second.port, "TIMEOUT", 10_000)
        until(lambda: second.client().info("replication")["role"] == "master", "promoted")
        source.lead_to(second)
        with Traffic(second, clients=2, rate=1000, seed=2):
            time.sleep(1)
        run.settle(second)
        equal(second, target)
        assert snapshots(second) == 0


def test_a_failover_does_not_choose_us(server: StartServer, ferry: StartFerry) -> None:
    """With only us attached it gives up in time, and the source goes on taking writes."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 500)
    run = ferry(source, target)
    run.wait_in_sync()
    with source.client() as client:
        client.set("first", "byte")  # at offset 0 there is nothing that we could have less of
        run.wait_for(lambda line: (line["applied_offset"] or 0) > 0, what="it is there")
        client.execute_command("FAILOVER", "TIMEOUT", 1500)
        until(lambda: client.info("replication")["master_failover_state"] == "no-failover", "given up")
        assert client.info("replication")["role"] == "master"
        client.incr("after")
    run.settle(source)
    equal(source, target)


def test_wait_counts_what_the_target_has(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 100)
    run = ferry(source, target)
    run.wait_in_sync()
    with source.client() as client:
        target.pause()
        try:
            client.incr("counted")
            assert client.execute_command("WAIT", 1, 2500) == 0, "the target does not have it"
        finally:
            target.resume()
        client.incr("counted")
    run.settle(source)
    equal(source, target)
