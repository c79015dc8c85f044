"""Item: a replica can be read, where one is preferred."""

from __future__ import annotations

import contextlib

from sync_tasks.errors import Side
from sync_tasks.precheck.facts import opened
from sync_tasks.precheck.item import Answer, Item, passed, skipped, warning
from sync_tasks.precheck.items.permissions import may_follow
from sync_tasks.precheck.scene import Scene
from sync_tasks.replicas import choose
from sync_tasks.topology import shards


def _ask(scene: Scene) -> Answer:
    """Users and passwords are not copied to replicas: what the task will do there is asked there."""
    if not scene.spec.prefer_replica:
        return skipped("prefer_replica is not set: the source itself is read")
    source = scene.source
    nodes = [source.at(*shard.master) for shard in shards(source)] if source.is_cluster else [source]
    found = [choose(node) for node in nodes]
    for reading in found:
        if not reading.replica:
            return warning(
                f"no replica of {reading.endpoint.address()} can be read: {reading.why}",
                "mend its replicas, or let the master be read as long as there is none",
            )
        with contextlib.closing(opened(reading.endpoint)) as client:
            may_follow(reading.endpoint, client)
    return passed(f"read are {', '.join(reading.endpoint.address() for reading in found)}")


ITEM = Item(
    id="replica",
    title="A replica can be read, if that is preferred",
    why="Without one the master makes the snapshot, and sends the stream.",
    ask=_ask,
    needs=frozenset({Side.SOURCE}),
    warns=True,
)
