"""Item: the clocks agree."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Item, passed, warning
from sync_tasks.precheck.scene import Scene

APART_MS = 5000.0
"""A target that is so far ahead expires soon what the source still has."""


def _ask(scene: Scene) -> Answer:
    source, target = scene.facts(Side.SOURCE), scene.facts(Side.TARGET)
    apart = target.ahead_ms - source.ahead_ms
    if abs(apart) <= APART_MS:
        return passed(f"{abs(apart) / 1000:.1f} s apart")
    ahead, behind = (target, source) if apart > 0 else (source, target)
    return warning(
        f"the clock of {ahead.endpoint.address()} is {abs(apart) / 1000:.0f} s ahead of that of"
        f" {behind.endpoint.address()}: expiries come early or late by as much",
        "let both follow NTP",
    )


ITEM = Item(
    id="clocks",
    title="The clocks of both servers agree",
    why="Expiries are moments: a clock that is ahead expires early.",
    ask=_ask,
    warns=True,
)
