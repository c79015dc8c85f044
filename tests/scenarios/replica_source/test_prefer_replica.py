"""`prefer_replica`: snapshot and stream come from a replica, and what counts is the master all the same."""

from __future__ import annotations

import time

import pytest

from tests.compare import same
from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.cutover.test_cutover import ends, finish
from tests.scenarios.judge import equal, snapshots
from tests.scenarios.replica_source.test_replica_source import replicate
from tests.sentinels import Sentinels
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until

PREFERRED = "prefer_replica = true\n"


def read_from(*servers: Server) -> Server | None:
    """The one that has a reader: a follower that listens nowhere."""
    for one in servers:
        said = one.client().info("replication") if one.process is not None else {}
        if any(isinstance(value, dict) and value.get("port") == 0 for value in said.values()):
            return one
    return None


def told(run: Keyferry) -> list[str]:
    """Which servers were read, as the task's events say."""
    return [str(row["text"]) for row in run.rows("SELECT text FROM event WHERE kind = 'replica' ORDER BY id")]


def goes_on(run: Keyferry, master: Server) -> None:
    """What the master writes now arrives."""
    master.client().incr("counted")
    run.settle(master)


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1"])
def test_replicas_die_one_after_the_other(kind: str, server: StartServer, ferry: StartFerry) -> None:
    master, one, other, target = server(kind), server(kind), server(kind), server(kind)
    fill(master.client(), 300)
    replicate(master, one)
    replicate(master, other)
    before = snapshots(master)
    run = ferry(master, target, config=PREFERRED)
    run.wait_phase("synchronizing")
    with Traffic(master, clients=2, rate=1000):
        for left in ((one, other), (one, other), (master,)):
            found = until(lambda left=left: read_from(*left), f"one of {len(left)} is read")
            time.sleep(0.5)
            if found is not master:
                found.kill()
        until(lambda: read_from(master), "the master is read")
    run.settle(master)
    equal(master, target)
    assert snapshots(master) == before, "only replicas have made a snapshot"
    assert ["the replica" in text for text in told(run)] == [True, True, False]
    one.start()
    one.client().execute_command("REPLICAOF", "127.0.0.1", master.port)
    until(lambda: read_from(one), "a replica that has come back is read again")
    goes_on(run, master)
    assert snapshots(one) == 0


def test_a_replica_that_stands_still(server: StartServer, ferry: StartFerry) -> None:
    """It is not in sync although all that came is applied; and the master is read after a while."""
    master, replica, target = server("redis-7.0"), server("redis-7.0"), server("redis-7.0")
    replicate(master, replica)
    run = ferry(master, target, config=PREFERRED)
    goes_on(run, master)
    replica.pause()
    try:
        master.client().incr("counted")
        offset = int(master.client().info("replication")["master_repl_offset"])
        run.wait_for(lambda line: not line["in_sync"], what="it says that it is behind")
        at = len(run.lines)
        run.wait_in_sync(offset=offset)
        assert not any(line["in_sync"] and line["applied_offset"] < offset for line in run.lines[at:])
        assert target.client().get("counted") == b"2"
    finally:
        replica.resume()
    assert read_from(master)


def test_a_replica_that_is_promoted(ferry: StartFerry, server: StartServer) -> None:
    """By Sentinels, while it is read: the stream goes on from the other one, which follows it now."""
    with Sentinels("redis-7.0", "orders", replicas=2) as sentinels:
        source, target = sentinels["orders"], server("redis-7.0")
        fill(source.client(), 300)
        source.linked()
        run = ferry(source, target, config=PREFERRED)
        run.wait_phase("synchronizing")
        with Traffic(source.master, clients=2, rate=1000):
            time.sleep(0.5)
            assert read_from(*source.replicas)
        source.linked()
        run.settle(source)
        lost = source.master
        source.fail_over()
        with Traffic(source.master, clients=2, rate=1000, seed=2):
            until(lambda: read_from(*source.replicas), "the other one is read")
        run.settle(source)
        equal(source.master, target)
        assert lost not in source.replicas
        assert snapshots(source.master) <= 1, "its own replica's, perhaps"


def test_the_cut_over_waits_for_what_the_master_has_written(server: StartServer, ferry: StartFerry) -> None:
    master, replica, target = server("redis-7.0"), server("redis-7.0"), server("redis-7.0")
    replicate(master, replica)
    run = ferry(master, target, config=PREFERRED)
    goes_on(run, master)
    assert read_from(replica)
    replica.pause()
    try:
        master.client().set("last", 1, ex=1000)
        finish(run)
        time.sleep(3)
        assert run.alive, "it has ended without the last write"
    finally:
        replica.resume()
    ends(run)
    assert target.client().get("last") == b"1"
    same(master.url(), target.url())
