"""A source that is a cluster: a stream of each shard, exact together, whoever dies, and wherever its slots go."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError, Side
from sync_tasks.precheck.grants import line
from sync_tasks.precheck.items.permissions import may_follow
from sync_tasks.precheck.scene import Scene
from tests.clusters import Cluster, differences
from tests.run_keyferry import Keyferry, Line
from tests.scenarios.cluster_source.writers import Writers
from tests.scenarios.conftest import StartCluster, StartFerry, Sync
from tests.scenarios.replica_source.test_prefer_replica import PREFERRED, read_from
from tests.servers import Server, StartServer
from tests.waiting import until
from workers.codec.slots_cy import slot

PAGE = Path(__file__).parents[3] / "docs" / "clusters.md"
KINDS = ["redis-7.0", "valkey-9.1", "redis-6.2", "valkey-8.1"]


def stands(source: Cluster) -> int:
    """The sum of its masters' offsets."""
    return sum(int(node.client().info("replication")["master_repl_offset"]) for node in source.masters)


def alike(run: Keyferry, source: Cluster, target: Server) -> None:
    """In sync by its own word, and then equal. What the source lets expire goes from the target a moment later."""
    run.wait_in_sync(offset=stands(source))
    here, there = source.client(), target.client()
    with suppress(AssertionError):
        until(lambda: not differences(here, there), "equal", timeout=15)
    assert not differences(here, there)
    assert run.last["error"] is None


def snapshots(source: Cluster) -> list[int]:
    """How many each master that was there from the beginning has sent."""
    return [int(node.client().info("stats")["sync_full"]) for node in source.masters]


def kinds(run: Keyferry) -> list[str]:
    return [row["kind"] for row in run.rows("select kind from event")]


@pytest.mark.parametrize("kind", KINDS)
def test_owners_and_loaders_die_under_traffic(
    kind: str, server: StartServer, cluster: StartCluster, sync: Sync
) -> None:
    source, target = cluster(kind), server(kind)
    client: Any = source.client()
    for number in range(2000):
        client.set(f"k{number}", number)
    target.client().set("its own", "stays")
    client.set("its own", "overwritten")
    target.client().delete("its own")
    run = sync(source.url(), target.url())
    with Writers(source):
        run.wait_phase("synchronizing")
        for _ in range(4):
            time.sleep(1.5)
            run.kill("stream worker", child=True)
        run.kill("stream worker", child=False)
        run.wait_for(lambda line: all(node["received_offset"] for node in line["nodes"]), what="new owners")
    alike(run, source, target)
    assert len(run.last["nodes"]) == 3
    assert run.last["applied_offset"] == sum(node["applied_offset"] for node in run.last["nodes"])
    assert snapshots(source) == [1, 1, 1]


def test_a_shard_fails_over(server: StartServer, cluster: StartCluster, sync: Sync) -> None:
    """Its stream goes on at the replica that has become the master."""
    source, target = cluster("valkey-9.1", replicas=1), server("valkey-9.1")
    run = sync(source.url(), target.url())
    with Writers(source):
        run.wait_phase("synchronizing")
        time.sleep(1)
        heir = source.fail_over(1)
        time.sleep(2)
    alike(run, source, target)
    assert int(heir.client().info("stats")["sync_partial_ok"]) >= 1
    assert "snapshot" in kinds(run)
    assert kinds(run).count("received") == 3, "no node has taken a second snapshot"


def test_replicas_are_read_and_what_is_in_scope_alone(
    server: StartServer, cluster: StartCluster, ferry: StartFerry
) -> None:
    """Of each shard one; no master makes a snapshot for us."""
    source, target = cluster("redis-7.0", replicas=1), server("redis-7.0")
    client: Any = source.client()
    for number in range(300):
        client.set(f"k{number}", number)
        client.set(f"out:{number}", number)
    before = snapshots(source)
    run = ferry(source, target, config=PREFERRED + '[filter]\nblock_prefixes = ["out:"]\n')
    run.wait_phase("synchronizing")
    for number in range(300):
        client.incr(f"k{number}")
        client.incr(f"out:{number}")
    run.wait_in_sync(offset=stands(source))
    assert all(read_from(one) for (one,) in source.replicas)
    assert snapshots(source) == before
    assert not list(target.client().scan_iter("out:*", count=1000))
    for number in range(300):
        client.delete(f"out:{number}")
    alike(run, source, target)


@pytest.mark.parametrize("kind", ["redis-7.0", "redis-6.2"])
def test_a_user_with_the_least_and_a_script_that_is_forbidden(
    kind: str, server: StartServer, cluster: StartCluster, sync: Sync
) -> None:
    """What docs/clusters.md grants is enough; without the script the precheck says so."""
    source, target = cluster(kind), server(kind)
    client: Any = source.client()
    for number in range(300):
        client.set(f"k{number}", number, ex=3600)
    for node in source.masters:
        words = line(Side.SOURCE, node.version, "s3cret", cluster=True)
        if node.version >= (7, 0):
            assert words.replace("s3cret", "PASSWORD") in PAGE.read_text()
        node.client().execute_command(*words.split())
    url = source.url().replace("://", "://keyferry:s3cret@")
    run = sync(url, target.url())
    with Writers(source, clients=1):
        run.wait_phase("synchronizing")
        time.sleep(1)
    alike(run, source, target)
    assert run.stop() == 130
    source.masters[2].client().execute_command("ACL", "SETUSER", "keyferry", "-eval")
    endpoint = Endpoint.parse(url, Side.SOURCE)
    scene = Scene(endpoint, Endpoint.parse(target.url(), Side.TARGET))
    scene.meet(Side.SOURCE)
    with pytest.raises(KeyferryError, match="may not run EVAL"):
        scene.ask(Side.SOURCE, lambda client: may_follow(endpoint, client))


def few(source: Cluster) -> None:
    """Slots that are written to all the while, to and fro."""
    rng = random.Random(1)
    for number in range(25):
        source.move(slot(b"n%d" % number), rng.choice(source.masters), between=lambda: time.sleep(0.02))


def to_a_new_shard(source: Cluster) -> None:
    new = source.add()
    for number in range(25):
        source.move(slot(b"l%d" % number), new)


def at_once(source: Cluster) -> None:
    """As Valkey 9 does by itself: slots change hands all at once, without a DEL and RESTORE for each key."""
    giver, taker = source.masters[:2]
    one, name = giver.client(), source.name(taker)
    for number in range(3):
        first, last = number * 500, number * 500 + 100
        assert one.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", name)
        until(lambda slot=last: source.owner(slot) is taker, "slots that have moved", timeout=30)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "how"),
    [("redis-7.0", few), ("valkey-9.1", to_a_new_shard), ("valkey-9.1", at_once), ("redis-6.2", few)],
)
def test_slots_move_under_traffic(
    kind: str, how: Callable[[Cluster], None], server: StartServer, cluster: StartCluster, sync: Sync
) -> None:
    source, target = cluster(kind), server(kind)
    run = sync(source.url(), target.url())
    with Writers(source):
        run.wait_in_sync()
        how(source)
        run.wait_for(lambda _: "added" in kinds(run), timeout=60, what="an addition")
    alike(run, source, target)

    def carried(line: Line) -> bool:
        return len(line["nodes"]) == len(source.masters)

    run.wait_for(carried, what="a node for each shard")


def test_what_belongs_to_one_node_and_what_to_all(server: StartServer, cluster: StartCluster, sync: Sync) -> None:
    """FLUSHALL empties one node's slots; a library is on all nodes, and each stream brings it."""
    source, target = cluster("redis-7.0"), server("redis-7.0")
    client: Any = source.client()
    for number in range(300):
        client.set(f"k{number}", number)
    run = sync(source.url(), target.url())
    run.wait_in_sync()
    for node in source.masters:
        one = node.client()
        one.function_load("#!lua name=kept\nredis.register_function('kept', function() return 1 end)")
        one.function_load("#!lua name=gone\nredis.register_function('gone', function() return 1 end)")
    for node in source.masters:
        node.client().function_delete("gone")
    source.masters[1].client().flushall()
    client.set("behind", 1)
    alike(run, source, target)
    assert target.client().fcall("kept", 0) == 1
    assert [library[1] for library in target.client().function_list()] == [b"kept"]
    assert len(differences(client, target.client())) == 0
    assert target.client().dbsize() > 150
