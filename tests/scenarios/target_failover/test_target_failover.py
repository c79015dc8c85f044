"""The target's address leads to its replica, which lacks the last writes, or to which the master has handed over."""

from __future__ import annotations

import time

import pytest

from tests.dataset import fill
from tests.proxy import Proxy
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until


def replicate(master: Server, replica: Server) -> None:
    replica.client().execute_command("REPLICAOF", "127.0.0.1", master.port)
    until(lambda: replica.client().info("replication").get("master_link_status") == "up", "the replica is linked")


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1"])
def test_to_a_replica_that_lags(kind: str, server: StartServer, ferry: StartFerry) -> None:
    """Data and checkpoint roll back together, and the stream goes on from there."""
    source, master, replica = server(kind), server(kind), server(kind)
    replicate(master, replica)
    fill(source.client(), 500)
    with Proxy(master) as target:
        with Traffic(source, clients=4, rate=2000):
            run = ferry(source, target)
            run.wait_phase("synchronizing")
            time.sleep(1)
            replica.pause()
            time.sleep(1)
            master.kill()
            replica.resume()
            replica.client().execute_command("REPLICAOF", "NO", "ONE")
            lost = run.last["applied_offset"]
            target.lead_to(replica)
            run.wait_for(lambda line: line["applied_offset"] > lost and line["retry"] is None, 45, what="it goes on")
        run.settle(source)
        equal(source, replica)
        assert snapshots(source) == 1


def test_by_failover_and_back(server: StartServer, ferry: StartFerry) -> None:
    """The old master answers READONLY until the address follows; connections from before survive both ways."""
    source, one, other = server("redis-7.0"), server("redis-7.0"), server("redis-7.0")
    replicate(one, other)
    fill(source.client(), 500)
    with Proxy(one) as target:
        with Traffic(source, clients=4, rate=2000):
            run = ferry(source, target)
            run.wait_phase("synchronizing")
            for master, replica in ((one, other), (other, one)):
                master.client().execute_command("FAILOVER")
                until(lambda replica=replica: replica.client().info("replication")["role"] == "master", "promoted")
                run.wait_retry("target")
                target.lead_to(replica)
                run.wait_for(lambda line: line["retry"] is None, 45, what="it goes on")
                until(lambda m=master: m.client().info("replication").get("master_link_status") == "up", "linked")
        run.settle(source)
        equal(source, one)
        assert snapshots(source) == 1
