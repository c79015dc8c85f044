"""Item: what the source may hold back for a replica outlasts its making of the snapshot."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Item, passed, skipped, warning
from sync_tasks.precheck.scene import Scene
from sync_tasks.units import size

SNAPSHOT_PER_S = 40 * 1024 * 1024
"""Bytes that a source writes into a snapshot in a second, on a modest machine: compressing and sending included."""
SPARE = 2
"""The present rate of writes may double meanwhile."""


def _ask(scene: Scene) -> Answer:
    source = scene.facts(Side.SOURCE)
    if (limits := _limits(source.settings.get("client-output-buffer-limit", ""))) is None:
        return skipped("the user may not ask CONFIG GET client-output-buffer-limit")
    hard, soft, seconds = limits
    lasts_s = source.used_memory / SNAPSHOT_PER_S
    needed = int(source.written_per_s * lasts_s * SPARE)
    if not _overrun(needed, lasts_s, hard, soft, seconds):
        return passed(f"about {size(needed)} pile up in {lasts_s:.0f} s of snapshot: within the limits")
    return warning(
        f"{source.endpoint.address()} receives {size(source.written_per_s)} a second: about {size(needed)} may pile up"
        f" while it makes its snapshot, and it cuts a replica off at {size(hard)}, or at {size(soft)} for {seconds} s",
        f'CONFIG SET client-output-buffer-limit "{_word(source.settings)} {needed * 2} {needed} 120" there',
    )


def _overrun(needed: int, lasts_s: float, hard: int, soft: int, seconds: int) -> bool:
    return bool((hard and needed > hard) or (soft and needed > soft and lasts_s > seconds))


def _limits(text: str) -> tuple[int, int, int] | None:
    """Hard and soft limit of replicas in bytes, and seconds for the soft one; of all the classes' in one line."""
    words = text.split()
    for name in ("slave", "replica"):
        if name in words:
            hard, soft, seconds = words[words.index(name) + 1 :][:3]
            return int(hard), int(soft), int(seconds)
    return None


def _word(settings: object) -> str:
    return "replica" if "replica" in str(settings) else "slave"


ITEM = Item(
    id="replica-buffer",
    title="The source's output buffer for replicas outlasts the snapshot",
    why="A source that cuts its replica off in mid-snapshot has to begin again, and may never come to an end.",
    ask=_ask,
    needs=frozenset({Side.SOURCE}),
    warns=True,
)
