"""Item: the target has room for what comes."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Item, passed, warning
from sync_tasks.precheck.scene import Scene
from sync_tasks.units import size

NEEDED = 1.1
"""Of the memory that the source uses: values may be packed otherwise on the target."""


def _ask(scene: Scene) -> Answer:
    source, target = scene.facts(Side.SOURCE), scene.facts(Side.TARGET)
    if not target.maxmemory:
        return passed("it has no limit")
    share = _share(scene)
    needed = int(source.used_memory * share * NEEDED)
    room = target.maxmemory - target.used_memory
    if room >= needed:
        return passed(f"room for {size(room)}, about {size(needed)} come")
    used = "uses" if share == 1 else "uses in scope, by its share of the keys,"
    return warning(
        f"{target.endpoint.address()} has room for {size(max(0, room))}, the source {used}"
        f" {size(source.used_memory * share)}",
        f"raise it there (CONFIG SET maxmemory {_megabytes(target.used_memory + needed)}mb), or copy fewer databases",
    )


def _megabytes(count: int) -> int:
    """The next whole one and another: what a server uses is a little more with every client."""
    return (count >> 20) + 2


def _share(scene: Scene) -> float:
    """Of the source's keys, those in scope: no server says what memory a database takes."""
    keys = scene.facts(Side.SOURCE).keys
    if scene.scope is None or not keys:
        return 1.0
    return sum(count for db, count in keys.items() if db in scene.scope) / sum(keys.values())


ITEM = Item(
    id="target-memory",
    title="The target has memory for the source's data and 10 % more",
    why="A target that is full refuses what comes: the task waits for room, and fails when its retry window is over.",
    ask=_ask,
    warns=True,
)
