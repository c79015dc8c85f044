"""Item: the target throws nothing away."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Item, passed, warning
from sync_tasks.precheck.scene import Scene


def _ask(scene: Scene) -> Answer:
    target = scene.facts(Side.TARGET)
    if not target.maxmemory or target.policy in ("", "noeviction"):
        return passed("nothing is evicted")
    return warning(
        f"{target.endpoint.address()} evicts keys when its memory is full ({target.policy}), and they are missing then",
        "CONFIG SET maxmemory-policy noeviction there, at least until the cut-over",
    )


ITEM = Item(
    id="eviction",
    title="The target evicts nothing",
    why="An evicted key is missing, and a later INCR or RPUSH of the source begins it anew: silent divergence.",
    ask=_ask,
    needs=frozenset({Side.TARGET}),
    warns=True,
)
