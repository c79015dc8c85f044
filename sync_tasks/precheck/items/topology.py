"""Item, for each side: a source that can be followed, a target that takes writes; a cluster is whole and at rest."""

from __future__ import annotations

from functools import partial

from sync_tasks.errors import KeyferryError, Side
from sync_tasks.precheck.facts import Facts, refusal
from sync_tasks.precheck.item import Answer, Item, passed, warning
from sync_tasks.precheck.scene import Scene
from sync_tasks.topology import shards

SHOWN = 5
"""So many slots are named."""


def _ask(scene: Scene, side: Side) -> Answer:
    facts = scene.facts(side)
    if scene.endpoint(side).is_cluster:
        return _cluster(scene, side)
    if facts.cluster:
        raise _member(facts, side)
    _source(facts) if side is Side.SOURCE else _target(facts)
    return passed("a master" if facts.role == "master" else f"a replica of {facts.master}, in touch with it")


def _member(facts: Facts, side: Side) -> KeyferryError:
    place = facts.endpoint.address()
    scheme = "rediss+cluster" if facts.endpoint.tls else "redis+cluster"
    return refusal(
        side,
        f"{place} is a member of a cluster, and has a part of its keys alone",
        f"write {scheme}://{place} for the whole cluster",
        "cluster",
    )


def _cluster(scene: Scene, side: Side) -> Answer:
    """Whole it is, or it would not have answered."""
    masters = scene.masters[side]
    for facts in masters:
        if facts.role != "master":
            raise refusal(
                side,
                f"{facts.endpoint.address()} was a master a moment ago, and is a replica now",
                "wait until the cluster has failed over",
                "cluster-fails-over",
            )
    moving = sorted({slot for one in masters for shard in shards(one.endpoint) for slot in shard.moving})
    if moving:
        some = ", ".join(map(str, moving[:SHOWN])) + (", ..." if len(moving) > SHOWN else "")
        return warning(
            f"{len(moving)} slots of the cluster are on their way from one node to another: {some}",
            "let the resharding end, or mend it (redis-cli --cluster fix): keys on their way are on the target only"
            " once they have arrived",
        )
    return passed(f"a cluster of {len(masters)} masters, which serve all slots; none is on its way to another")


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
    return Item(f"{side}-topology", title, why, partial(_ask, side=side), needs=frozenset({side}), warns=True)


ITEMS = {
    Side.SOURCE: _item(
        Side.SOURCE,
        "The source stands alone, is a replica in touch with its master, or a cluster that is whole and at rest",
        "A replica that has lost its master says nothing new; a member of a cluster has a part of the keys alone.",
    ),
    Side.TARGET: _item(
        Side.TARGET,
        "The target is a master that stands alone, or a cluster that is whole and at rest",
        "A replica takes no writes, or loses them with its next full sync; a member of a cluster takes some keys only.",
    ),
}
