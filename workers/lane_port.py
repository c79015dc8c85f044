"""The control plane as one of several appliers of a stream sees it: each writes to a part of the target."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sync_tasks.errors import KeyferryError
from sync_tasks.lanes import Closed, Lane
from sync_tasks.slots import Ranges
from sync_tasks.topology import Shard
from sync_tasks.views import ChunkView, LoadState, NodeView, Orders, TaskView
from workers.ports import StreamPort


class Together:
    """What the appliers of one stream have in common.

    Args:
        port: the claimed job.
        lanes: how many they are.
    """

    def __init__(self, port: StreamPort, lanes: int) -> None:
        self.port, self._lanes = port, lanes
        self._lock = threading.Lock()
        self._begun: set[int] = set()
        self._ailing: set[tuple[int, str]] = set()  # lane, and the side that it has found at fault
        self._let_go: set[int] = set()

    def begun(self, lane: int) -> bool:
        """One more streams; whether all do."""
        with self._lock:
            self._begun.add(lane)
            return len(self._begun) == self._lanes

    def let_go(self, lane: int) -> bool:
        """One more acts on no slots but those that the job has; whether none does."""
        with self._lock:
            self._let_go.add(lane)
            return len(self._let_go) == self._lanes

    def ails(self, lane: int, side: str) -> None:
        """A lane waits for a side of the task to recover."""
        with self._lock:
            self._ailing.add((lane, side))

    def well(self, lane: int, side: str) -> bool:
        """A lane has nothing to complain of a side; whether none has."""
        with self._lock:
            self._ailing.discard((lane, side))
            return not any(one == side for _, one in self._ailing)


class LanePort:
    """The job's port, for one lane: under names of the lane's own on the target, with the lane's chunks.

    Args:
        together: of all lanes.
        lane: this one.
    """

    def __init__(self, together: Together, lane: Lane) -> None:
        self._together, self._port, self.lane = together, together.port, lane
        self.task: TaskView = replace(self._port.task, uid=lane.uid(self._port.task.uid))

    @property
    def epoch(self) -> int:
        return self._port.epoch

    @property
    def moved(self) -> bool:
        return self._port.moved

    def node(self) -> NodeView:
        return self._port.node()

    def renew(self) -> Orders:
        return self._port.renew()

    def raise_epoch(self, epoch: int) -> None:
        self._port.raise_epoch(epoch)

    def begin_snapshot(
        self, replid: str, offset: int, db: int, keys_total: int | None, bytes_total: int | None, gen: int | None = None
    ) -> int:
        return self._port.begin_snapshot(replid, offset, db, keys_total, bytes_total, gen)

    def add_chunk(self, *, gen: int, seq: int, db: int, shard: int, huge: bool, path: str, keys: int, size: int) -> int:
        return self._port.add_chunk(gen=gen, seq=seq, db=db, shard=shard, huge=huge, path=path, keys=keys, size=size)

    def end_snapshot(self, gen: int, keys: int, size: int | None) -> None:
        self._port.end_snapshot(gen, keys, size)

    def load_state(self, gen: int) -> LoadState:
        return self._port.load_state(gen)

    def chunks(self, gen: int, *, every: bool = False) -> list[ChunkView]:
        found = self._port.chunks(gen)
        every = every or self.task.spec.transform.active  # which says what goes where
        return found if every else [chunk for chunk in found if chunk.shard == self.lane.number]

    def reload(self, chunk_ids: list[int]) -> None:
        self._port.reload(chunk_ids)

    def void_chunks(self, gen: int) -> None:
        """Nothing: other lanes may be loading still, and chunks of this one find their gates shut."""

    def begin_stream(self) -> None:
        if self._together.begun(self.lane.number):
            self._port.begin_stream()

    def set_lanes(self, given: Sequence[Lane]) -> tuple[Lane, ...]:
        return self._port.set_lanes(given)

    def change_lanes(self, before: Sequence[Lane], after: Sequence[Lane]) -> None:
        self._port.change_lanes(before, after)

    def settle_lanes(self, numbers: Sequence[int]) -> None:
        self._port.settle_lanes(numbers)

    def close_lanes(self, closed: Mapping[int, Closed]) -> None:
        self._port.close_lanes(closed)

    def progress(self, values: Mapping[str, Any]) -> None:
        self._port.progress(values)

    def failing(self, error: KeyferryError) -> float:
        self._together.ails(self.lane.number, error.side.value)
        return self._port.failing(error)

    def healed(self, side: str, quiet_s: float = 0.0) -> None:
        if self._together.well(self.lane.number, side):
            self._port.healed(side, quiet_s)

    def fail(self, error: KeyferryError) -> None:
        self._port.fail(error)

    def rests(self) -> None:
        self._port.rests()

    def receive_no_more(self, why: str) -> None:
        self._port.receive_no_more(why)

    def reread(self) -> None:
        self._port.reread()

    def moved_in(self) -> None:
        self._port.moved_in()

    def took_up(self) -> None:
        self._port.took_up()

    def finished(self) -> None:
        self._port.finished()

    def event(self, kind: str, text: str) -> None:
        self._port.event(kind, text)

    def lay_out(self, found: Sequence[Shard]) -> None:
        self._port.lay_out(found)

    def reshard(self, found: Sequence[Shard], serves: Ranges, end: int = 0) -> bool:
        return self._port.reshard(found, serves, end)

    def others(self) -> list[int]:
        return self._port.others()

    def stand(self, offset: int | None) -> bool:
        return self._port.stand(offset)

    def untaken(self) -> Ranges:
        return self._port.untaken()

    def holds(self, slots: Ranges) -> None:
        if self._together.let_go(self.lane.number):
            self._port.holds(slots)

    def found_before(self) -> dict[str, Any] | None:
        return self._port.found_before()

    def touched(self, found: dict[str, Any]) -> None:
        self._port.touched(found)
