"""Item: instances of other accounts may be used by the roles that the task names."""

from __future__ import annotations

from sync_tasks.precheck.item import Answer, Item, passed
from sync_tasks.precheck.scene import Scene


def _ask(scene: Scene) -> Answer:
    count = scene.grants()
    return passed(f"{count} roles were assumed" if count else "all instances are the task's own account's, or typed")


ITEM = Item(
    id="grants",
    title="Other accounts let the task use their instances",
    why="A role that no longer trusts the task's account, or may no longer use the instance, stops the task.",
    ask=_ask,
    needs=frozenset(),
)
