"""Item: the source sends what scripts did, and not the scripts."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Item, passed, warning
from sync_tasks.precheck.scene import Scene

NAME = "lua-replicate-commands"


def _ask(scene: Scene) -> Answer:
    """From 7.0 on there is nothing else; before 5.0 a script may ask for it, and hardly any does."""
    source = scene.facts(Side.SOURCE)
    if source.product != "Redis" or source.version >= (7, 0):
        return passed("effects alone")
    if source.version >= (5, 0):
        if source.settings.get(NAME) != "no":
            return passed("effects alone, unless a script or a setting says otherwise")
        return warning(_said(source.endpoint.address(), f"{NAME} is no"), f"CONFIG SET {NAME} yes there")
    return passed(_said(source.endpoint.address(), f"it is {source.name}"))


def _said(address: str, why: str) -> str:
    return (
        f"{address} sends scripts as they are ({why}): they run again on the target, and those that ask for the time"
        " or give absolute ones have their keys copied anew instead"
    )


ITEM = Item(
    id="script-replication",
    title="The source sends what scripts have done",
    why="A script that runs again may do something else: its keys are then asked of the source, which costs time.",
    ask=_ask,
    needs=frozenset({Side.SOURCE}),
    warns=True,
)
