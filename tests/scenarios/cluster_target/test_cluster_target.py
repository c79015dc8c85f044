"""A standalone source, and a target that is a cluster: exact in each of its nodes, whoever dies."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import ResponseError

from sync_tasks import Client
from sync_tasks.names import is_gate
from tests.clusters import differences
from tests.dataset import fill
from tests.run_up import Up
from tests.scenarios.conftest import StartCluster, Sync
from tests.servers import StartServer
from tests.traffic import Traffic
from tests.waiting import until

KINDS = ["redis-7.0", "valkey-9.1", "redis-6.2", "valkey-8.1", "redis-8.2"]


def alike(one: Any, other: Any) -> None:
    """What a source has let expire in this moment goes from its target a moment later, while we look, perhaps."""
    found: list[str] = []

    def same() -> bool:
        try:
            found[:] = differences(one, other)
        except ResponseError as error:  # a key has gone between two questions
            found[:] = [str(error)]
        return not found

    with suppress(AssertionError):
        until(same, "equal", timeout=20)
    assert not found


@pytest.mark.parametrize("kind", KINDS)
def test_owners_and_loaders_die_under_traffic(
    kind: str, server: StartServer, cluster: StartCluster, sync: Sync
) -> None:
    source, target = server(kind), cluster(kind)
    client = source.client()
    fill(client, 2000)
    run = sync(source.url(0), target.url())
    with Traffic(source, clients=2, rate=1500, mix="unswapped", databases=(0,)):
        until(lambda: run.find("load worker", child=True), "a loader")
        run.kill("load worker", child=True)
        run.wait_phase("synchronizing")
        for _ in range(3):
            time.sleep(1.5)
            run.kill("stream worker", child=True)
    run.settle(source)
    alike(client, target.client())
    assert int(client.info("stats")["sync_full"]) == 1


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1"])
def test_commands_on_keys_of_several_slots(
    kind: str, server: StartServer, cluster: StartCluster, sync: Sync
) -> None:
    """Split where the result is the same, else their keys are copied anew: none is dropped, none stops the task."""
    source, target = server(kind), cluster(kind)
    client, there = source.client(), target.client()
    run = sync(source.url(0), target.url())
    run.wait_in_sync()
    client.mset({f"k{i}": i for i in range(200)})
    for i in range(20):
        client.rpush(f"l{i}", *range(10))
        client.sadd(f"s{i}", *range(i, 10 + i))
        client.zadd(f"z{i}", {str(j): j for j in range(5)})
    client.delete(*[f"k{i}" for i in range(50)])
    client.rename("k60", "renamed")
    client.rename("k61", "k62")
    client.copy("l0", "l-copied", replace=True)
    client.rpoplpush("l1", "l2")
    client.lmove("l3", "l-new", "LEFT", "RIGHT")
    client.smove("s1", "s2", "5")
    client.sunionstore("s-union", "s3", "s4", "s5")
    client.sinterstore("s-none", "s0", "s19")
    client.zunionstore("z-union", ["z1", "z2"])
    client.bitop("OR", "bits", "k70", "k71")
    client.sort("l4", store="sorted")
    client.pfadd("p1", *range(100))
    client.pfadd("p2", *range(50, 200))
    client.pfmerge("p3", "p1", "p2")
    client.mset({"{t}1": 1, "{t}2": 2})
    client.rename("{t}1", "{t}3")
    client.rpush("wide", *range(20_000))
    client.hset("wide-hash", mapping={str(i): i for i in range(9000)})
    with client.pipeline(transaction=True) as pipe:
        for i in range(100, 150):
            pipe.incr(f"k{i}")
        pipe.rename("k150", "k151").execute()
    client.set("timed", "x", ex=1000)
    client.rename("timed", "timed-renamed")
    if source.version >= (7, 0):
        client.function_load("#!lua name=lib\nredis.register_function('f', function() return 1 end)")
    run.settle(source)
    alike(client, there)
    if source.version >= (7, 0):
        for node in target.masters:
            assert node.client().fcall("f", 0) == 1
    client.flushall()
    client.set("behind", 1)
    run.settle(source)
    alike(client, there)
    assert run.last["error"] is None


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1"])
def test_a_node_fails_over(
    kind: str, server: StartServer, cluster: StartCluster, sync: Sync
) -> None:
    """Its data and its checkpoint fall back together, and the stream goes on from there at its replica."""
    source, target = server(kind), cluster(kind, replicas=1)
    client = source.client()
    fill(client, 1000)
    run = sync(source.url(0), target.url())
    run.wait_phase("synchronizing")
    with Traffic(source, clients=2, rate=1000, mix="unswapped", databases=(0,)):
        time.sleep(1)
        target.fail_over(1)
        time.sleep(1)
    run.settle(source)
    alike(client, target.client())
    assert int(client.info("stats")["sync_full"]) == 1


MOVES = {
    "some": lambda c: [c.move(slot, c.masters[1]) for slot in range(30)],
    "our own": lambda c: [c.move(slot, c.masters[2]) for slot in (5460, 10921, 5459)],
    "to a new node": lambda c: [c.move(slot, c.masters[3]) for slot in (*range(100, 120), *range(7000, 7020))],
}


@pytest.mark.parametrize("which", MOVES)
def test_slots_move_under_traffic(
    which: str, server: StartServer, cluster: StartCluster, sync: Sync
) -> None:
    """Their keys are copied anew, wherever our own keys and the slots go; the stream goes on."""
    kind = "redis-7.0" if which == "our own" else "valkey-9.1"
    source, target = server(kind), cluster(kind)
    if which == "to a new node":
        target.add()
    client = source.client()
    fill(client, 1000)
    run = sync(source.url(0), target.url())
    run.wait_phase("synchronizing")
    with Traffic(source, clients=2, rate=1000, mix="unswapped", databases=(0,)):
        time.sleep(1)
        MOVES[which](target)
        run.wait_for(
            lambda _: "added" in [row["kind"] for row in run.rows("select kind from event")], what="an addition"
        )
    run.settle(source)
    alike(client, target.client())
    assert int(client.info("stats")["sync_full"]) == 1


def test_a_task_from_its_start_to_its_release(server: StartServer, cluster: StartCluster, tmp_path: Path) -> None:
    source, target = server("redis-7.0"), cluster("redis-7.0")
    here, there = source.client(), target.client()
    here.mset({f"k{i}": i for i in range(300)})
    with Up(tmp_path / "state", "--stream", "2") as service, Client(service.state) as client:
        service.wait_ready()
        task = client.create(source.url(0), target.url())
        client.start(task)
        until(lambda: client.progress(task).in_sync, "in sync")
        client.suspend(task)
        here.incr("k7")
        client.resume(task)
        until(lambda: there.get("k7") == b"8", "what was written meanwhile")
        client.modify(task, filter={"block_prefixes": ["k1"]})
        until(lambda: client.get(task).state == "synchronizing" and client.progress(task).in_sync, "modified")
        client.modify(task, filter={"block_prefixes": []})
        here.incr("k100")
        until(lambda: there.get("k100") == b"101", "what came into scope again")
        for node in target.masters:
            node.client().flushall()
        client.restart(task)
        until(lambda: client.get(task).state == "synchronizing" and client.progress(task).in_sync, "begun anew")
        alike(here, there)
        client.finish(task, verify="value")
        until(lambda: client.get(task).state == "finished", "cut over")
        here.set("late", 1)
        assert not differences(here, there, shift_ms=0) or there.get("late") is None
        client.release(task)
        left = {key: node for node in target.masters for key in node.client().scan_iter("keyferry:*")}
        assert all(is_gate(key) and node.client().ttl(key) > 0 for key, node in left.items()), left
