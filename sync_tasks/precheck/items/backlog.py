"""Item: how long a cut the source's backlog bridges."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.facts import Facts, refusal
from sync_tasks.precheck.item import Answer, Item, passed, skipped
from sync_tasks.precheck.scene import Scene
from sync_tasks.units import size

BRIDGED_S = 60
OTHERWISE = 'set scan_changes = "notifications"'


def _ask(scene: Scene) -> Answer:
    """Advice, if snapshots are taken: what has been received lies on disk, and a longer cut costs time, not data."""
    source = scene.facts(Side.SOURCE)
    if scene.spec.continues:
        _must_keep(source)
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


def _must_keep(source: Facts) -> None:
    """Where no snapshot is taken, the stream is had of the backlog alone."""
    address = source.endpoint.address()
    if source.role != "master":
        what = f"{address} is a replica: on which database the stream acts that it passes on cannot be found out"
        raise refusal(Side.SOURCE, what, f"name its master as the source, or {OTHERWISE}", "no-backlog")
    if not source.keeps_backlog:
        what = f"{address} keeps no backlog: its stream cannot be followed without a snapshot"
        raise refusal(Side.SOURCE, what, f"attach a replica to it once, or {OTHERWISE}", "no-backlog")


ITEM = Item(
    id="backlog",
    title="The source's backlog bridges short cuts",
    why="After a cut that is longer than its backlog the source sends everything again.",
    ask=_ask,
    needs=frozenset({Side.SOURCE}),
)
