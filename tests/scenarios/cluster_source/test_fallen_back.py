"""Slots have passed from one shard of the source to another, and then target or database are as they were before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from tests.clusters import Cluster, differences
from tests.run_keyferry import Keyferry
from tests.scenarios.cluster_source.test_cluster_source import kinds, snapshots
from tests.scenarios.cluster_source.writers import Writers
from tests.scenarios.conftest import StartCluster, Sync
from tests.scenarios.database_rolled_back.test_database_rolled_back import back_up, put_in_place
from tests.servers import Server, StartServer
from tests.waiting import until
from workers.codec.slots_cy import slot

TAGS = [b"n%d" % number for number in range(12)]


def hand_over(source: Cluster) -> None:
    """Every one of the slots goes to another shard."""
    for tag in TAGS:
        owner = source.owner(slot(tag))
        source.move(slot(tag), next(one for one in source.masters if one is not owner))


def added(source: Cluster) -> int:
    """How many shards have been given some of them."""
    return len({source.owner(slot(tag)).port for tag in TAGS})


def changed(source: Cluster, tag: bytes) -> bool:
    """Whether whoever has a slot by now takes writes to it."""
    try:
        taker = source.owner(slot(tag)).client()
        taker.delete(b"{%b}late" % tag)
        taker.incr(b"{%b}kept" % tag)
    except redis.RedisError:
        return False
    return True


def even(run: Keyferry, source: Cluster, target: Server) -> None:
    """In sync, and equal at some moment: what has a time goes from the source all the while."""
    offset = sum(int(node.client().info("replication")["master_repl_offset"]) for node in source.masters)
    run.wait_in_sync(offset=offset)
    here, there = source.client(), target.client()
    until(lambda: not differences(here, there), "equal", timeout=30)


def test_the_target(server: StartServer, cluster: StartCluster, sync: Sync) -> None:
    """It has keys again that the givers' streams have deleted since, and the takers' have never heard of."""
    source, target = cluster("redis-7.0"), server("redis-7.0")
    client: Any = source.client()
    for tag in TAGS:
        for name in (b"kept", b"gone", b"late"):
            client.set(b"{%b}%b" % (tag, name), 1)
    run = sync(source.url(), target.url())
    run.wait_in_sync()
    target.client().save()
    for tag in TAGS:
        client.delete(b"{%b}gone" % tag)
    hand_over(source)
    for tag in TAGS:
        until(lambda tag=tag: changed(source, tag), "a hand-over that every node has heard of")  # type: ignore[misc]
    run.wait_for(lambda _: kinds(run).count("added") >= added(source), timeout=60, what="hand-overs")
    even(run, source, target)
    target.kill()
    target.start()
    assert target.client().exists(b"{%b}gone" % TAGS[0]), "it has fallen back"
    run.wait_for(lambda line: line["retry"] is None and line["in_sync"], 60, what="in sync again")
    with Writers(source, clients=1):
        run.wait_for(lambda line: line["in_sync"], what="a stream")
    even(run, source, target)
    assert snapshots(source) == [1, 1, 1]


@pytest.mark.rare
def test_the_database(server: StartServer, cluster: StartCluster, sync: Sync, tmp_path: Path) -> None:
    """It says that the givers have what the takers carry: nobody may take that for deleted."""
    source, target = cluster("redis-7.0"), server("redis-7.0")
    client: Any = source.client()
    for number in range(400):
        client.set(f"n{number}", number)
    run = sync(source.url(), target.url())
    with Writers(source, clients=1):
        run.wait_in_sync()
        back_up(run, tmp_path / "earlier.db")
        hand_over(source)
        run.wait_for(lambda _: kinds(run).count("added") >= added(source), timeout=60, what="hand-overs")
    even(run, source, target)
    run.kill_tree()
    put_in_place(tmp_path / "earlier.db", run.state)
    run = sync(source.url(), target.url())
    with Writers(source, clients=1):
        run.wait_for(lambda _: "gives up" in str(run.rows("select text from event")), timeout=60, what="hand-overs")
    even(run, source, target)
    assert snapshots(source) == [1, 1, 1]
