"""Item: the target takes strings as long as the source's."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Item, passed, skipped, warning
from sync_tasks.precheck.scene import Scene
from sync_tasks.units import size

USUAL = 512 * 1024 * 1024
NAME = "proto-max-bulk-len"


def _ask(scene: Scene) -> Answer:
    source, target = scene.facts(Side.SOURCE), scene.facts(Side.TARGET)
    there = target.settings.get(NAME, "")
    if not there.isdigit():
        return skipped(f"the user may not ask CONFIG GET {NAME}")
    here = source.settings.get(NAME, "")
    longest = int(here) if here.isdigit() else USUAL
    if int(there) >= longest:
        return passed(size(int(there)))
    return warning(
        f"{target.endpoint.address()} takes values of up to {size(int(there))}, the source of up to {size(longest)}",
        f"CONFIG SET {NAME} {longest} there",
    )


ITEM = Item(
    id="bulk-limit",
    title="The target takes values as long as the source's",
    why="A longer value is refused there, and the task cannot go on.",
    ask=_ask,
    warns=True,
)
