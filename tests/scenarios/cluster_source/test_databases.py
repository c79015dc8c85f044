"""A cluster with several databases as the source: Valkey's may have them from 9.0 on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scenarios.cluster_source.test_cluster_source import kinds, snapshots
from tests.scenarios.cluster_target.test_databases import SEVERAL, unlike
from tests.scenarios.conftest import StartCluster, Sync
from tests.servers import StartServer
from tests.waiting import until
from workers.codec.slots_cy import slot


@pytest.mark.rare
def test_each_goes_to_its_own(server: StartServer, cluster: StartCluster, sync: Sync) -> None:
    source, target = cluster("valkey-9.1", config=SEVERAL), server("valkey-9.1")
    tags = [b"n%d" % number for number in range(60)]

    def write(text: bytes) -> None:
        for tag in tags:
            for db in (0, 3):
                client: Any = source.owner(slot(tag)).client(db=db)
                client.append(tag, text)
                client.hset(b"{%b}h" % tag, text, db)
                client.set(b"{%b}t" % tag, text, ex=3600)

    write(b"a")
    run = sync(source.url(), target.url())
    run.wait_in_sync()
    write(b"b")
    giver, taker = source.masters[:2]
    moved = [tag for tag in tags if source.owner(slot(tag)) is giver]
    assert giver.client().execute_command(
        "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 0, 2000, "NODE", source.name(taker)
    )
    until(lambda: source.owner(2000) is taker, "slots that have moved", timeout=30)
    write(b"c")
    run.kill("stream worker", child=True)
    run.wait_for(lambda _: "added" in kinds(run), timeout=60, what="a hand-over")
    assert any(source.owner(slot(tag)) is taker for tag in moved)
    write(b"d")
    offset = sum(int(node.client().info("replication")["master_repl_offset"]) for node in source.masters)
    run.wait_in_sync(offset=offset)
    for db in (0, 3):
        until(lambda db=db: not unlike(source, target, db), f"database {db}", timeout=20)  # type: ignore[misc]
    assert snapshots(source) == [1, 1, 1]
