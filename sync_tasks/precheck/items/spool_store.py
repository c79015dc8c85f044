"""Item: the object store of the spool takes files and gives them back."""

from __future__ import annotations

from sync_tasks.precheck.item import Answer, Item, passed, skipped
from sync_tasks.precheck.scene import Scene


def _ask(scene: Scene) -> Answer:
    if scene.store is None:
        return skipped("chunks stay in the spool")
    scene.store.try_out()
    return passed("a file was written, read and removed")


ITEM = Item(
    id="spool-store",
    title="The spool's object store can be written and read",
    why="Chunks of the snapshot go there, and load workers get them from there.",
    ask=_ask,
    needs=frozenset(),
)
