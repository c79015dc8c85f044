"""Item: there is disk for what is received."""

from __future__ import annotations

import shutil

from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Item, passed, skipped, warning
from sync_tasks.precheck.scene import Scene
from sync_tasks.units import size


def _ask(scene: Scene) -> Answer:
    source = scene.facts(Side.SOURCE)
    if scene.store is not None:
        return skipped("chunks go to an object store")
    place = scene.spool
    while place is not None and not place.exists():
        place = place.parent if place.parent != place else None
    if place is None:
        return skipped("the spool is elsewhere")
    free = shutil.disk_usage(place).free
    if free >= source.used_memory:
        return passed(f"{size(free)} are free, the source uses {size(source.used_memory)} of memory")
    return warning(
        f"the spool has {size(free)} free, the source uses {size(source.used_memory)} of memory: a snapshot may be as"
        " long, though most are shorter",
        "make room, or put the spool elsewhere (setting spool_dir)",
    )


ITEM = Item(
    id="spool-space",
    title="The spool has disk for the snapshot",
    why="With the disk full the stream pauses, and when the source's backlog is over everything is sent again.",
    ask=_ask,
    needs=frozenset({Side.SOURCE}),
    warns=True,
)
