"""A stream to a target that is a cluster: an applier for each part of it, on the one log, as if they were one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Fenced, UsageError
from sync_tasks.lanes import Lane, lanes_of
from sync_tasks.throttle import Limits
from sync_tasks.topology import shards
from sync_tasks.views import ChunkView, TaskView
from workers.applied import Progress
from workers.apply import Applier
from workers.lane_port import LanePort, Together
from workers.lane_script import Agreement
from workers.ports import ChunkPort, StreamPort
from workers.sampling import Sample
from workers.scope import Scope
from workers.source.ask import Source
from workers.spool.log import Log
from workers.takeover import STRIDE
from workers.target.claim import FINISHED, LOADING, STREAMING, Checkpoint, look, peek_epoch
from workers.target.link import TargetLink

MOST = 256
"""Lanes have a byte for their number."""


def lanes(port: StreamPort, target: Endpoint) -> tuple[Lane, ...]:
    """The parts of a task's target; (): it is one server. Raises as `topology.shards`, and UsageError."""
    if port.task.lanes or not target.is_cluster:
        return port.task.lanes
    found = lanes_of(shards(target))
    if len(found) > MOST:
        raise UsageError(f"the target has {len(found)} shards", hint=f"Keyferry writes to {MOST} at most")
    return port.set_lanes(found)


def aim(port: ChunkPort, target: Endpoint) -> Endpoint:
    """Where a chunk goes: the node that has its lane; the port's task is under the lane's names then."""
    if not port.task.lanes:
        return target
    lane = next((one for one in port.task.lanes if one.number == port.chunk.shard and one.slots), None)
    if lane is None:
        raise Fenced("the target's slots have moved: another snapshot is taken")
    port.task = replace(port.task, uid=lane.uid(port.task.uid))
    return target.serving(lane.home)


def each(task: TaskView, target: Endpoint) -> list[tuple[Endpoint, TaskView]]:
    """Every place where keys of a task's own are, and the task under the names that they have there."""
    if not task.lanes:
        return [] if target.is_cluster else [(target, task)]
    return [(target.serving(lane.home), replace(task, uid=lane.uid(task.uid))) for lane in task.lanes if lane.slots]


def checkpoint(task: TaskView, target: Endpoint, number: int) -> Checkpoint | None:
    """Of a source node's stream, of the part of the target that is behind all others; None: one has none. Raises what
    the target answers."""
    found = []
    for place, mine in each(task, target):
        link = TargetLink(place, "keyferry-look", task.home)
        try:
            found.append(look(link, mine.uid, number))
        finally:
            link.close()
    return behind(found)


def behind(found: Sequence[Checkpoint | None]) -> Checkpoint | None:
    """The one that is behind all others: as long as some part is open, or is being loaded, one of these."""
    there = [one for one in found if one is not None]
    if not there or len(there) < len(found):
        return None
    open_ = [one for one in there if one.state != FINISHED]
    loading = [one for one in open_ if one.state == LOADING]
    return min(loading or open_ or there, key=lambda one: one.offset)


def ahead(found: Sequence[Checkpoint | None]) -> Checkpoint | None:
    """The one that has come furthest; None: there is none."""
    there = [one for one in found if one is not None]
    return max(there, key=lambda one: (one.gen, one.state == STREAMING, one.offset), default=None)


class Lanes:
    """What the job and its receiver know as their applier.

    Args:
        port: the claimed job.
        target: the cluster.
        given: its parts.
        make: an applier of an endpoint, port, scope, and source.
        source: makes a connection for questions, of which each lane has its own.
        log: of the node.
    """

    def __init__(
        self,
        port: StreamPort,
        target: Endpoint,
        given: Sequence[Lane],
        make: Callable[[Endpoint, StreamPort, Scope, Source], Applier],
        source: Callable[[], Source],
        log: Log,
    ) -> None:
        spec, self._port, self._log = port.task.spec, port, log
        self.scope = Scope(port.task.databases, spec.filter, port.node().slot_ranges)
        given = [one for one in given if one.slots]
        together = Together(port, len(given))
        self._each = [
            make(
                target.serving(one.home), LanePort(together, one),
                Scope(
                    port.task.databases, spec.filter, port.node().slot_ranges, one, shown=spec.transform.active
                ),
                source(),
            )
            for one in given
        ]  # fmt: skip
        first = self._each[0]
        self.stop_event, self.loaded, self.finishing = first.stop_event, first.loaded, first.finishing
        self.border, self.settling, self.may_close = first.border, first.settling, first.may_close
        for one in self._each[1:]:
            one.stop_event, one.loaded, one.finishing = self.stop_event, self.loaded, self.finishing
            one.border, one.settling, one.may_close = self.border, self.settling, self.may_close

    def start(self) -> None:
        """All of them. Raises as `Agreement.check`, and what the target answers."""
        self._raise_epoch()
        if digest := self._port.task.spec.transform.digest:
            agreement = Agreement(digest, len(self._each), self._begins_at, self._log)
            agreement.check([one.checkpoint() for one in self._each])
            for one in self._each:
                one.agreement = agreement
        for one in self._each:
            one.start()

    def _begins_at(self) -> int | None:
        """Where a lane without a checkpoint begins; None: each should have one."""
        node = self._port.node()
        return None if node.begun else node.snapshot_offset

    def _raise_epoch(self) -> None:
        """An operator's start goes above what any lane has seen."""
        node = self._port.node()
        if node.fresh:
            seen = [self._port.epoch]
            for one in self._each:
                link = TargetLink(one.endpoint, f"keyferry-{one.task.uid}-epoch", one.home)
                try:
                    seen.append(peek_epoch(link, one.task.uid, node.number))
                finally:
                    link.close()
            self._port.raise_epoch((max(seen) // STRIDE + 1) * STRIDE)

    def is_alive(self) -> bool:
        """Whether any is."""
        return any(one.is_alive() for one in self._each)

    def moved(self, address: str) -> None:
        """Nothing: for each connection of a lane the node that has it is found anew."""

    def join(self, timeout: float) -> None:
        """Wait for all of them, so many seconds."""
        until = time.monotonic() + timeout
        for one in self._each:
            if one.is_alive():
                one.join(max(0.0, until - time.monotonic()))

    @property
    def error(self) -> BaseException | None:
        """What one of them has ended with."""
        return next((one.error for one in self._each if one.error is not None), None)

    @property
    def closed_at(self) -> int | None:
        """As of an applier, once all parts of the target are closed: all that came up to there is carried."""
        return _least([one.closed_at for one in self._each])

    @property
    def stands_at(self) -> int | None:
        """As of an applier, once all stand still."""
        return _least([one.stands_at for one in self._each])

    @property
    def gen(self) -> int | None:
        """Number of the snapshot below the stream, the least one; None: some lane does not stream."""
        found = [one.gen for one in self._each]
        return None if None in found else min(gen for gen in found if gen is not None)

    @property
    def whole(self) -> bool:
        """Whether nothing is being added to what the stream acts on."""
        return all(one.whole for one in self._each)

    @property
    def progress(self) -> Progress:
        """Of all, at this moment: as far as the last one is."""
        found = [one.progress for one in self._each]
        settled = [one.settled_at for one in found]
        last = max(found, key=lambda one: one.changed_offset or 0)
        return Progress(
            committed=_least([one.committed for one in found]),
            reached=_least([one.reached for one in found]),
            latency_ms=max((one.latency_ms for one in found if one.latency_ms is not None), default=None),
            oldest_ms=min((one.oldest_ms for one in found if one.oldest_ms), default=None),
            streaming=all(one.streaming for one in found),
            windows=sum(one.windows for one in found),
            held=None if None in [one.held for one in found] else sum(one.held or 0 for one in found),
            settled_at=_least(settled),
            unextended=all(one.unextended for one in found),
            changed_offset=last.changed_offset,
            changed_by=last.changed_by,
            prunable=min(one.prunable for one in found),
        )

    @property
    def sample(self) -> Sample | None:
        """Of what they write, together."""
        return self._each[0].sample

    @sample.setter
    def sample(self, given: Sample | None) -> None:
        for one in self._each:
            one.sample = given

    def limit(self, limits: Limits) -> None:
        """How fast they may write, together."""
        some = len(self._each)
        share = Limits(
            None if limits.rps is None else limits.rps / some,
            None if limits.bytes_per_s is None else limits.bytes_per_s / some,
        )
        for one in self._each:
            one.limit(share)

    def came_to(self, offset: int | None) -> None:
        """Where they go on."""
        for one in self._each:
            one.came_to(offset)

    def after(self, border: threading.Lock, offset: int | None) -> None:
        """As of an applier."""
        self.border = border
        for one in self._each:
            one.after(border, offset)

    def checkpoint(self) -> Checkpoint | None:
        """Of the part that is behind all others; None: one has none."""
        return behind([one.checkpoint() for one in self._each])

    def furthest(self) -> Checkpoint | None:
        """Of the part that has come furthest; None: no part has one."""
        return ahead([one.checkpoint() for one in self._each])

    def reopen(self, gen: int, former: str | None, replid: str, source_keys: int | None) -> None:
        """As of an applier, in every part that has begun: either in all of them, or in those that come before one that
        stands against it; they wait for the next try then."""
        every = self._port.node().begun
        begun = [one for one in self._each if every or one.checkpoint() is not None]
        for one in begun:
            one.may_reopen(former, replid, source_keys)
        for one in begun:
            one.reopen(gen, former, replid, source_keys)

    def number_snapshot(self, last: int) -> int:
        """As `Gates.number`: the same in every part."""
        found = [one.gates.number(last) for one in self._each]
        for one, number in zip(self._each, found, strict=True):
            if number < max(found):
                one.gates.number(max(found) - 1)
        return max(found)

    def close_earlier(self, gen: int) -> None:
        """As `Gates.close_earlier`."""
        for one in self._each:
            one.gates.close_earlier(gen)

    def remove_pieces(self, chunks: list[ChunkView]) -> None:
        """As of an applier."""
        for one in self._each:
            one.remove_pieces([chunk for chunk in chunks if chunk.shard == one.lane])

    def close(self) -> None:
        """Their connections for questions."""
        for one in self._each:
            one.close()


def _least(given: list[int | None]) -> int | None:
    return None if None in given else min(one for one in given if one is not None)


