"""Slots of a target cluster that move from node to node while a task runs: its lanes move with them.

A lane's stream goes on where its own keys are, with the slots that their node serves now. What it gets of another lane
is an addition (`workers.adding`): copied anew from the source beside the stream, into scope at one offset. So nothing
has to be known of what came to those slots before, nor when they moved: a node writes to what it serves, and to nothing
else.
"""

from __future__ import annotations

import time
from pathlib import Path

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError
from sync_tasks.extent import Extent
from sync_tasks.lanes import Lane, moved
from sync_tasks.names import checkpoint_key, closed_key
from sync_tasks.topology import shards
from workers.fence import close_loads, close_stream
from workers.lanes import lanes
from workers.ports import StreamPort
from workers.spool.log import Log
from workers.spool.sorted import is_sorted
from workers.target.claim import ALL_HELD, STREAMING, Checkpoint, look
from workers.target.link import TargetLink

LOOK_S = 2.0
CALM_S = 10.0
"""How often the cluster is asked, and while all is well."""
STAY = (
    "slots of the target cluster have moved: under a transform nobody can say which keys of the source are to be copied"
    " anew there. Move them back, and it goes on; or restart the task with an empty target"
)


class Relaning:
    """Of one job.

    Args:
        port: the claimed job.
        target: the cluster.
    """

    def __init__(self, port: StreamPort, target: Endpoint) -> None:
        self._port, self._target = port, target
        self._looked_at = time.monotonic()
        self._last: tuple[Lane, ...] | None = None  # what the last look would have, if that was other lanes

    def turn(self, well: bool) -> None:
        """Look now and then; ends the job, for other lanes, once slots have moved and none is on its way.

        Args:
            well: all lanes stream, and nothing fails.
        """
        now = time.monotonic()
        if not self._target.is_cluster or now - self._looked_at < (CALM_S if well and self._last is None else LOOK_S):
            return
        self._looked_at = now
        try:
            found = shards(self._target)
        except KeyferryError:
            return  # whoever writes there finds out, and says so
        after = moved(self._port.task.lanes, found)
        if after == self._port.task.lanes or any(one.moving for one in found):
            self._last = None if after == self._port.task.lanes else after
        elif self._port.task.spec.transform.active:
            if after != self._last:
                self._port.event("lanes", STAY)
            self._last = after
        elif after != self._last:
            self._last = after  # many may move one after the other: it is waited for what they come to
        else:
            self._port.event("lanes", "slots of the target cluster have moved: their keys are copied anew")
            self._port.change_lanes(self._port.task.lanes, after)


def lanes_now(port: StreamPort, target: Endpoint, home: int, directory: Path, log: Log) -> tuple[Lane, ...]:
    """The parts that a target has when a job begins, the stream in its place in each; (): it is one server.

    Args:
        home: database of Keyferry's keys there.
        directory: of the node in the spool.
    Raises what finding them raises, and what the target answers.
    """
    if lanes(port, target):
        found(port, target, home)
        node = port.node()
        if not node.begun and not is_sorted(directory / f"gen-{node.gen}", port.task.lanes):
            log.anew = True  # loaders know the lanes by their numbers
    return port.task.lanes


def found(port: StreamPort, target: Endpoint, home: int) -> None:
    """Give the job's stream its place in lanes that were made since it began, and end it in those that were given up.

    A new lane begins with a checkpoint that says: exact for nothing, where the last of the others is. Raises what the
    target answers.
    """
    node, known = port.node(), port.task.lanes
    for lane in known:
        if not lane.slots:
            _end(port, target, lane, home)
    fresh = [lane for lane in known if lane.slots and lane.later and node.number not in lane.founded]
    if not fresh or not node.begun:
        return
    donors = [point for lane in known if lane.slots and lane not in fresh if (point := _look(port, target, lane, home))]
    streaming = [point for point in donors if point.state == STREAMING]
    if streaming:
        donor = min(streaming, key=lambda point: point.offset)
        for lane in fresh:
            _begin(port, target, lane, home, donor)
    port.settle_lanes([lane.number for lane in fresh])


def _link(port: StreamPort, target: Endpoint, lane: Lane, home: int) -> TargetLink:
    return TargetLink(target.serving(lane.home), f"keyferry-{port.task.uid}-lanes", home)


def _look(port: StreamPort, target: Endpoint, lane: Lane, home: int) -> Checkpoint | None:
    link = _link(port, target, lane, home)
    try:
        return look(link, lane.uid(port.task.uid), port.node().number)
    finally:
        link.close()


def _begin(port: StreamPort, target: Endpoint, lane: Lane, home: int, donor: Checkpoint) -> None:
    uid, number = lane.uid(port.task.uid), port.node().number
    point = Checkpoint(
        donor.replid, donor.offset, donor.db, 0, "", donor.offset, STREAMING, donor.gen, held=False,
        extend_ms=donor.extend_ms, seen_db=donor.db, fresh_ms=ALL_HELD,
    )  # fmt: skip
    nothing = Extent(databases={}).text.encode()
    more = [b"extent", nothing, b"adding", b"", b"windows", b"0", b"snapshots", b"%d" % donor.gen]
    link = _link(port, target, lane, home)
    try:
        if link.ask_all([[b"WATCH", checkpoint_key(uid, number)], [b"HGET", checkpoint_key(uid, number), b"state"]])[1]:
            return  # it had begun, and nobody could write that down
        commands: list[list[bytes | int]] = [[b"MULTI"]]
        commands.append([b"HSET", checkpoint_key(uid, number), *point.fields(), *more])
        commands += [[b"SET", closed_key(uid, number, gen), b"1"] for gen in range(1, donor.gen + 1)]
        link.ask_all([*commands, [b"EXEC"]])
    finally:
        link.close()


def _end(port: StreamPort, target: Endpoint, lane: Lane, home: int) -> None:
    link = _link(port, target, lane, home)
    try:
        close_loads(link, lane.uid(port.task.uid), port.node())
        close_stream(link, lane.uid(port.task.uid), port.node().number)
    finally:
        link.close()
