"""Item: source and target are not one data set."""

from __future__ import annotations

from sync_tasks.errors import Side, UsageError
from sync_tasks.precheck.item import Answer, Item, passed
from sync_tasks.precheck.scene import Scene


def _ask(scene: Scene) -> Answer:
    """Run ids tell servers apart, whatever the addresses; a common replication id makes one data set."""
    source, target = scene.facts(Side.SOURCE), scene.facts(Side.TARGET)
    if source.run_id and source.run_id == target.run_id:
        raise UsageError(
            f"source {source.endpoint.address()} and target {target.endpoint.address()} are the same server",
            hint="name two different servers",
            code="same-server",
        )
    if source.replid and source.replid == target.replid:
        for one, other in ((source, target), (target, source)):
            if one.role != "master":
                raise UsageError(
                    f"the {one.endpoint.side.value} {one.endpoint.address()} is a replica of the same data set"
                    f" as the {other.endpoint.side.value} {other.endpoint.address()}",
                    hint="name two servers that do not replicate each other",
                    code="same-server",
                )
    return passed("two servers, which do not replicate each other")


ITEM = Item(
    id="different-servers",
    title="Source and target are not the same server",
    why="A server that is copied to itself would get every write again, for ever.",
    ask=_ask,
)
