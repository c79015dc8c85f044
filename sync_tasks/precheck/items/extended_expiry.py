"""Item: keys whose time is renewed at the last moment are not expired on the target first."""

from __future__ import annotations

from sync_tasks.precheck.item import Answer, Item, passed
from sync_tasks.precheck.scene import Scene


def _ask(scene: Scene) -> Answer:
    if scene.spec.extend_expiry_s:
        return passed(f"keys expire {scene.spec.extend_expiry_s} s later on the target, until the cut-over")
    return passed(
        "extend_expiry_s = 0: what is renewed at the last moment may have expired on the target, and is then copied"
        " anew, with a question to the source for each"
    )


ITEM = Item(
    id="extended-expiry",
    title="Keys do not expire on the target before the source has spoken",
    why="A key that has expired on the target takes the next command as if it were new: Keyferry notices, and asks.",
    ask=_ask,
    needs=frozenset(),
)
