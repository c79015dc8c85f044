"""A shard of a source cluster gives all its slots away, as one does that is to be taken out of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.clusters import Cluster
from tests.run_keyferry import Line
from tests.scenarios.cluster_source.test_cluster_source import alike
from tests.scenarios.cluster_source.writers import Writers
from tests.scenarios.conftest import StartCluster, Sync
from tests.servers import Server, StartServer
from tests.waiting import until
from workers.codec.slots_cy import slot

SLOTS = [slot(b"n%d" % number) for number in range(20)]
"""That are written to all the while."""
STAYS = {"cluster-allow-replica-migration": "no"}
"""One without slots stays a master; else it becomes a replica of whoever has taken the last one."""


def one_by_one(source: Cluster, giver: Server, taker: Server) -> None:
    for number in SLOTS:
        source.move(number, taker)


def at_once(source: Cluster, giver: Server, taker: Server) -> None:
    ranges = [part for number in SLOTS for part in (number, number)]
    with giver.client() as one:
        assert one.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", source.name(taker))
    until(lambda: all(source.owner(number) is taker for number in SLOTS), "slots that have moved", timeout=30)


@pytest.mark.parametrize(
    ("kind", "how", "config"),
    [
        ("redis-7.0", one_by_one, {}), ("redis-7.0", one_by_one, STAYS), ("valkey-9.1", at_once, {}),
        ("redis-6.2", one_by_one, {}),
    ],
    ids=["a replica then", "a master still", "at once", "before 7.0"],
)
def test_all_its_slots(
    kind: str,
    how: Callable[[Cluster, Server, Server], None],
    config: dict[str, str],
    server: StartServer,
    cluster: StartCluster,
    sync: Sync,
) -> None:
    """Its stream may have ended before the target had all of it; what it had is right none the less, and carried on."""
    source, target = cluster(kind, config=config), server(kind)
    giver = source.add()
    for number in SLOTS:
        source.move(number, giver)
    run = sync(source.url(), target.url())
    with Writers(source):
        run.wait_in_sync()
        how(source, giver, source.masters[0])
        source.masters.remove(giver)
        source.replicas[0].append(giver)

        def carried(line: Line) -> bool:
            return sum(not node["slots"] for node in line["nodes"]) == 1 and line["in_sync"]

        run.wait_for(carried, timeout=60, what="a node without slots")
    if kind != "redis-6.2":  # which may take its time over it
        assert giver.client().info("replication")["role"] == ("master" if config else "slave")
    alike(run, source, target)
