"""Item: failures are retried long enough to be mended."""

from __future__ import annotations

from sync_tasks.precheck.item import Answer, Item, passed, warning
from sync_tasks.precheck.scene import Scene

ADVISED_MIN = 30


def _ask(scene: Scene) -> Answer:
    retry = scene.spec.retry
    if retry.connection_min > ADVISED_MIN:
        return passed(f"{retry.connection_min} min for connections, {retry.other_min} min for everything else")
    return warning(
        f"the task fails after {retry.connection_min} minutes without a connection: a night's outage ends it",
        f"set retry.connection_min above {ADVISED_MIN}",
    )


ITEM = Item(
    id="retry-times",
    title="Failures are retried long enough",
    why="A failed task can be resumed only as far as its log and the source's backlog reach.",
    ask=_ask,
    needs=frozenset(),
    warns=True,
)
