"""Item: the source does not give a replica up that is busy for a moment."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Item, passed, skipped, warning
from sync_tasks.precheck.scene import Scene

LEAST_S = 10
"""We answer every second; a machine under load may be late by some."""


def _ask(scene: Scene) -> Answer:
    source = scene.facts(Side.SOURCE)
    text = source.settings.get("repl-timeout", "")
    if not text.isdigit():
        return skipped("the user may not ask CONFIG GET repl-timeout")
    if int(text) >= LEAST_S:
        return passed(f"{text} s")
    return warning(
        f"{source.endpoint.address()} gives up a replica that is silent for {text} s",
        "CONFIG SET repl-timeout 60 there",
    )


ITEM = Item(
    id="replication-timeout",
    title="The source waits for a replica that is late",
    why="A source that gives up its replica at every pause makes it begin again and again.",
    ask=_ask,
    needs=frozenset({Side.SOURCE}),
    warns=True,
)
