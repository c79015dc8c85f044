"""Item, for each side: no cluster, a source that can be followed, a target that takes writes."""

from __future__ import annotations

from functools import partial

from sync_tasks.errors import Side
from sync_tasks.precheck.facts import Facts, refusal
from sync_tasks.precheck.item import Answer, Item, passed, warning
from sync_tasks.precheck.scene import Scene
from sync_tasks.topology import shards


def _ask(scene: Scene, side: Side) -> Answer:
    facts = scene.facts(side)
    if side is Side.TARGET and scene.target.is_cluster:
        return _cluster(scene)
    if facts.cluster:
        raise refusal(
            side,
            f"{facts.endpoint.address()} is a member of a cluster, which is not supported yet",
            "name a server that runs without cluster-enabled",
            "cluster",
        )
    _source(facts) if side is Side.SOURCE else _target(facts)
    return passed("a master" if facts.role == "master" else f"a replica of {facts.master}, in touch with it")


def _cluster(scene: Scene) -> Answer:
    found = shards(scene.target)
    if moving := sum(len(one.moving) for one in found):
        return warning(
            f"{moving} slots of the cluster are on their way from one node to another",
            "wait until they have arrived: redis-cli --cluster check HOST:PORT, or CLUSTER NODES",
        )
    return passed(f"a cluster of {len(found)} masters, which serve all slots")


def _source(facts: Facts) -> None:
    if facts.role != "master" and not facts.link_up:
        raise refusal(
            Side.SOURCE,
            f"{facts.endpoint.address()} is a replica that has lost its master {facts.master}",
            "mend its replication, name the master itself, or make it a master (REPLICAOF NO ONE)",
            "replica-without-master",
        )


def _target(facts: Facts) -> None:
    if facts.role != "master":
        raise refusal(
            Side.TARGET,
            f"{facts.endpoint.address()} is a replica of {facts.master}",
            "name its master, or make it a master (REPLICAOF NO ONE)",
            "target-is-replica",
        )


def _item(side: Side, title: str, why: str) -> Item:
    ask, warns = partial(_ask, side=side), side is Side.TARGET
    return Item(f"{side}-topology", title, why, ask, needs=frozenset({side}), warns=warns)


ITEMS = {
    Side.SOURCE: _item(
        Side.SOURCE,
        "The source stands alone, or is a replica in touch with its master",
        "A replica that has lost its master says nothing new.",
    ),
    Side.TARGET: _item(
        Side.TARGET,
        "The target is a master that stands alone",
        "A replica takes no writes, or loses them with its next full sync.",
    ),
}
