"""A cluster that is read slot by slot, as a task of the service: how fast it is asked, and other keys that come in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sync_tasks import Client
from tests.clusters import Cluster, differences
from tests.run_up import Up
from tests.scenarios.cluster_source.test_cluster_source import few
from tests.scenarios.cluster_source.writers import Writers
from tests.scenarios.conftest import StartCluster
from tests.scenarios.scan_cluster.test_scan_cluster import TELLS, fill
from tests.servers import StartServer
from tests.waiting import until

PATIENCE_S = 60.0


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Up(tmp_path / "state", "--stream", "3", "--load", "3") as service:
        service.wait_ready()
        with Client(service.state) as made:
            yield made
            for task in made.list():
                print(made.progress(task), *made.events(task), sep="\n")
        print(service.report())


@pytest.mark.rare
def test_the_pace_of_questions(client: Client, cluster: StartCluster, server: StartServer) -> None:
    """All nodes and workers together, whatever a question costs."""
    source, target = cluster("redis-7.0"), server("redis-7.0")
    fill(source, 40_000)

    def pace(seconds: float) -> float:
        began, before = time.monotonic(), asked(source)
        time.sleep(seconds)
        return (asked(source) - before - len(source.masters)) / (time.monotonic() - began)

    task = client.create(
        source.url(), target.url(), reader="scan", sync_types=["full"], throttle={"full": {"source_qps": 2000}}
    )
    client.start(task)
    until(lambda: pace(1) > 1200, "it is read", PATIENCE_S)
    time.sleep(2.5)
    assert pace(10) == pytest.approx(2000, rel=0.1)
    client.modify(task, throttle={"full": {"source_qps": -1}})
    until(lambda: client.get(task).state == "finished", "the rest is read at once", PATIENCE_S)


def asked(source: Cluster) -> int:
    return sum(int(node.client().info("stats")["total_commands_processed"]) for node in source.masters)


@pytest.mark.rare
def test_more_keys_come_in(client: Client, cluster: StartCluster, server: StartServer) -> None:
    """While slots move and all keys are written to."""
    source, target = cluster("redis-7.0", config=TELLS), server("redis-7.0")
    fill(source, 3000)
    with Writers(source, clients=2):
        task = client.create(
            source.url(), target.url(), reader="scan", filter={"block_prefixes": ["k", "l", "{m"]}
        )
        client.start(task, wait_s=PATIENCE_S)
        until(lambda: client.get(task).state == "synchronizing", "it follows", PATIENCE_S)
        assert not target.client().exists("k1", "k2")
        client.modify(task, filter={"block_prefixes": ["l"]}, wait_s=PATIENCE_S)
        few(source)
        until(lambda: target.client().exists("k1", "k2") == 2, "they are copied", PATIENCE_S)
    here: Any = source.client()
    for key in here.scan_iter("l*", target_nodes="all"):
        here.delete(key)
    until(lambda: not differences(here, target.client()), "equal", PATIENCE_S)
