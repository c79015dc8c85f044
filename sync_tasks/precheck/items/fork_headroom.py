"""Item: the source's machine has room for the child that makes the snapshot."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Item, passed, skipped, warning
from sync_tasks.precheck.scene import Scene
from sync_tasks.units import size

COPIED = 0.1
"""Of its memory that the source copies while the child writes, if it has not said how much the last time."""


def _ask(scene: Scene) -> Answer:
    source = scene.facts(Side.SOURCE)
    if not source.memory:
        return skipped("it does not say what memory its machine has")
    needed = max(source.copied, int(source.used_memory * COPIED))
    free = source.memory - source.resident
    repair = "free memory there, or name a replica on another machine as the source"
    if free < needed:
        return warning(
            f"{source.endpoint.address()} takes {size(source.resident)} of its machine's {size(source.memory)}, and a"
            f" snapshot may take {size(needed)} more",
            repair,
        )
    if not source.saved:
        return warning(f"{source.endpoint.address()} failed at its last snapshot to disk", f"see its log; {repair}")
    return passed(f"{size(free)} are free or other processes', about {size(needed)} are needed")


ITEM = Item(
    id="fork-headroom",
    title="The source can fork for its snapshot",
    why="A source without memory for its child cannot make a snapshot, or is killed for it.",
    ask=_ask,
    needs=frozenset({Side.SOURCE}),
    warns=True,
)
