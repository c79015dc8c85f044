"""Item, for each side: the server can be reached, and lets the user in."""

from __future__ import annotations

from functools import partial

from sync_tasks import dumps
from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Item, passed
from sync_tasks.precheck.scene import Scene


def _ask(scene: Scene, side: Side) -> Answer:
    if scene.endpoint(side).is_dump:
        return passed(f"{scene.endpoint(side).address()} is {dumps.look(scene.endpoint(side))}")
    facts = scene.meet(side)
    tls = " with TLS" if scene.endpoint(side).tls else ""
    return passed(f"{scene.endpoint(side).address()} answers{tls}: {facts.name}")


ITEMS = {
    side: Item(
        id=f"{side}-connection",
        title=f"The {side} can be reached, and lets the user in",
        why="Every worker connects as this check did.",
        ask=partial(_ask, side=side),
        needs=frozenset(),
    )
    for side in (Side.SOURCE, Side.TARGET)
}
