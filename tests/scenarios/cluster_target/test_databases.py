"""Several databases: Valkey's clusters may have them from 9.0 on, all others have one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.clusters import Cluster, value
from tests.scenarios.conftest import StartCluster, Sync
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until
from workers.codec.slots_cy import slot

SEVERAL = {"cluster-databases": "16"}


def of_database(cluster: Cluster, db: int) -> dict[bytes, redis.Redis]:
    """Every key of a database, but Keyferry's own, to a client of its node."""
    found: dict[bytes, redis.Redis] = {}
    for node in cluster.masters:
        client = node.client(db=db)
        found |= {key: client for key in client.scan_iter(count=1000) if not key.startswith(b"keyferry:")}
    return found


def unlike(cluster: Cluster, server: Server, db: int) -> list[bytes]:
    """Keys of a database that are not the same at both."""
    one: Any = server.client(db=db)
    there = of_database(cluster, db)
    here = {key for key in one.scan_iter(count=1000) if not key.startswith(b"keyferry:")}
    return [*(here ^ there.keys()), *(key for key in here & there.keys() if value(one, key) != value(there[key], key))]


@pytest.mark.rare
def test_each_goes_to_its_own(server: StartServer, cluster: StartCluster, sync: Sync) -> None:
    source, target = server("valkey-9.1"), cluster("valkey-9.1", config=SEVERAL)
    for db in (0, 3):
        client: Any = source.client(db=db)
        for number in range(500):
            client.set(f"k{number}", f"{db}-{number}", ex=3600 if number % 2 else None)
    run = sync(source.url(), target.url())
    run.wait_phase("synchronizing")
    with Traffic(source, clients=2, rate=800, mix="unswapped", databases=(0, 3)):
        run.kill("stream worker", child=True)
        source.client(db=3).set("wrong", "type")
        until(lambda: b"wrong" in of_database(target, 3), "a key of database 3")
        of_database(target, 3)[b"wrong"].delete("wrong")
        target_key: Any = next(node for node in target.masters if node is target.owner(slot(b"wrong")))
        target_key.client(db=3).rpush("wrong", "foreign")
        source.client(db=3).append("wrong", "d")
        until(lambda: value(target_key.client(db=3), b"wrong") == b"typed", "a key that was copied anew")
        source.client(db=3).flushdb()
        source.client(db=3).set("behind", 1)
        source.client(db=3).copy("behind", "beside", destination_db=0)
    run.settle(source)
    for db in (0, 3):
        until(lambda db=db: not unlike(target, source, db), f"database {db}", timeout=20)  # type: ignore[misc]
    source.client().flushall()
    source.client(db=3).set("last", 1)
    run.settle(source)
    assert [len(of_database(target, db)) for db in (0, 3)] == [0, 1]
    assert run.last["error"] is None


@pytest.mark.parametrize("kind", ["redis-7.0", pytest.param("valkey-9.1", marks=pytest.mark.rare)])
def test_a_cluster_that_has_one_says_so_before(
    kind: str, server: StartServer, cluster: StartCluster, tmp_path: Path
) -> None:
    source, target = server("redis-7.0"), cluster(kind, masters=1)
    source.client(db=3).set("k", 1)
    words = [sys.executable, "-m", "sync_tasks.cli.main", "sync", source.url(), target.url(), "--state", str(tmp_path)]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert said.returncode == 4, said
    assert "has no database 3" in said.stderr
    assert "map 3 to 0, or leave it out" in said.stderr
    assert target.masters[0].client().dbsize() == 0
