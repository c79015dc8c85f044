"""Item: a source that is followed by its notifications tells of every key that changes."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.notifications import ENOUGH, enough
from sync_tasks.precheck.facts import Facts, refusal
from sync_tasks.precheck.item import Answer, Item, passed, skipped
from sync_tasks.precheck.scene import Scene

NAME = "notify-keyspace-events"


def _ask(scene: Scene) -> Answer:
    if not scene.spec.listens:
        return skipped("the source is not followed by its notifications")
    source = scene.facts(Side.SOURCE)
    flags = source.settings.get(NAME)
    if flags is None:
        return skipped(f"the user may not ask CONFIG GET {NAME}: see to it that it is {ENOUGH}")
    if not enough(flags):
        raise refusal(
            Side.SOURCE, f'{source.endpoint.address()} does not tell of every key: {NAME} is "{flags}"',
            f"CONFIG SET {NAME} {ENOUGH} there; it costs the source some of its time for each write{_instead(source)}",
            "notifications-off",
        )  # fmt: skip
    return passed(f'{NAME} is "{flags}"{_instead(source)}')


def _instead(source: Facts) -> str:
    """What would be exact, where the source keeps its stream."""
    kept = source.keeps_backlog and source.role == "master" and not source.cluster
    return '. It keeps a backlog: scan_changes = "psync" would follow it exactly, without a snapshot' if kept else ""


ITEM = Item(
    id="notifications",
    title="A source that is read by SCAN, and followed, tells of every key that changes",
    why="What is not told is found only when all keys are compared, every `reconcile_min` minutes.",
    ask=_ask,
    needs=frozenset({Side.SOURCE}),
)
