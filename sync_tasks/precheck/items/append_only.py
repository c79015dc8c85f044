"""Item: the append-only file of a source whose kind replicates from it."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.facts import refusal
from sync_tasks.precheck.item import Answer, Item, passed, skipped, warning
from sync_tasks.precheck.scene import Scene

SETTING = "appendonly"
REPAIR = f"set {SETTING} to yes there (CONFIG SET {SETTING} yes, or the provider's console)"


def _ask(scene: Scene) -> Answer:
    """An instance in persistent memory has its data there, and its writes in the append-only file alone."""
    source = scene.facts(Side.SOURCE)
    if not source.persistent:
        return skipped("its data are in ordinary memory: what it replicates is not taken from an append-only file")
    state = source.settings.get(SETTING)
    if state == "yes":
        return passed(f"an instance in persistent memory, with {SETTING} yes")
    address = source.endpoint.address()
    if state is None:
        return warning(f"{address} is an instance in persistent memory, and does not say what {SETTING} is", REPAIR)
    what = f"{address} is an instance in persistent memory, and its {SETTING} is {state}"
    raise refusal(Side.SOURCE, what, REPAIR, "append-only")


ITEM = Item(
    id="append-only",
    title="A source in persistent memory keeps an append-only file",
    why="Such an instance replicates from that file: without it there is no stream.",
    ask=_ask,
    needs=frozenset({Side.SOURCE}),
    warns=True,
)
