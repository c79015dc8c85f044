"""Item: versions that this Keyferry knows."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.facts import refusal
from sync_tasks.precheck.item import Answer, Item, passed
from sync_tasks.precheck.scene import Scene

OLDEST = {
    Side.SOURCE: {"Redis": (2, 8), "Valkey": (7, 2)},
    Side.TARGET: {"Redis": (6, 2), "Valkey": (7, 2)},
}


def _ask(scene: Scene) -> Answer:
    both = scene.facts(Side.SOURCE), scene.facts(Side.TARGET)
    for facts in both:
        first = OLDEST[facts.endpoint.side][facts.product]
        if facts.version < first:
            oldest = ".".join(map(str, first))
            raise refusal(
                facts.endpoint.side,
                f"{facts.endpoint.address()} is {facts.name}, which is not supported yet",
                f"name a server of {facts.product} {oldest} or later",
                f"{facts.endpoint.side.value}-version",
            )
    return passed(f"from {both[0].name} to {both[1].name}")


ITEM = Item(
    id="versions",
    title="Both versions are known",
    why="An unknown version may mean something else by the same bytes.",
    ask=_ask,
)
