"""Item: how long a cut the source's backlog bridges."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Item, passed, skipped
from sync_tasks.precheck.scene import Scene
from sync_tasks.units import size

BRIDGED_S = 60


def _ask(scene: Scene) -> Answer:
    """Never more than advice: what has been received lies on disk, and a longer cut costs time, not data."""
    source = scene.facts(Side.SOURCE)
    text = source.settings.get("repl-backlog-size", "")
    if not text.isdigit():
        return skipped("the user may not ask CONFIG GET repl-backlog-size")
    bridged = int(text) / source.written_per_s if source.written_per_s else float("inf")
    if bridged >= BRIDGED_S:
        return passed(f"{size(int(text))}: at the present rate it bridges a cut of a minute and more")
    needed = int(source.written_per_s * BRIDGED_S * 2)
    return passed(
        f"{size(int(text))}: at the present rate it bridges a cut of {bridged:.0f} s; for two minutes:"
        f" CONFIG SET repl-backlog-size {needed}"
    )


ITEM = Item(
    id="backlog",
    title="The source's backlog bridges short cuts",
    why="After a cut that is longer than its backlog the source sends everything again.",
    ask=_ask,
    needs=frozenset({Side.SOURCE}),
)
