"""Where a way back begins, written down once a stream has closed its target.

Each master of a cluster has a stream, and so a place of its own, which the applier of its lane has brought into its
checkpoint (`workers.way_back`).
"""

from __future__ import annotations

from sync_tasks.endpoints import Endpoint
from sync_tasks.lanes import Closed
from sync_tasks.topology import shards
from workers.ports import StreamPort
from workers.target.claim import Checkpoint, look
from workers.target.link import TargetLink


def noted(port: StreamPort, target: Endpoint, found: Checkpoint | None) -> str | None:
    """The place in the target's stream, as `Point`; None: it kept none, or it is a cluster, whose lanes say it.

    Args:
        found: the checkpoint with which the stream has closed the target.
    Raises what the target answers.
    """
    if any(lane.slots for lane in port.task.lanes):
        _note(port, target)
        return None
    return (found.back or None) if found is not None else None


def _note(port: StreamPort, target: Endpoint) -> None:
    """Nothing if a master kept no stream, or if slots have moved: what came to them would be in two streams."""
    number = port.node().number
    closed: dict[int, Closed] = {}
    for lane in port.task.lanes:
        if not lane.slots:
            continue
        master = target.serving(lane.home).now()
        link = TargetLink(master, "keyferry-look", port.task.home)
        try:
            found = look(link, lane.uid(port.task.uid), number)
        finally:
            link.close()
        shard = next((one for one in shards(master) if one.slots == lane.slots and not one.moving), None)
        if found is None or not found.back or shard is None:
            return
        closed[lane.number] = Closed(number, found.back, tuple(sorted(shard.members)), shard.address)
    port.close_lanes(closed)
