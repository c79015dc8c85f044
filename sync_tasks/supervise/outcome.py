"""When the foreground command is done: a pure function of what was read. No clock, no store."""

from __future__ import annotations

from dataclasses import dataclass

from sync_tasks.errors import EXIT_CODES, KeyferryError, Side
from sync_tasks.slots import SLOTS
from sync_tasks.states import ChunkState, TaskState
from sync_tasks.supervise.until import Until
from sync_tasks.views import DatabaseLoad, NodeView, RetryView, TaskView


@dataclass(frozen=True, slots=True)
class Reading:
    """All that one look at the store says."""

    task: TaskView
    nodes: tuple[NodeView, ...]
    retries: tuple[RetryView, ...] = ()
    loads: tuple[DatabaseLoad, ...] = ()
    disk_full: bool = False  # as the file system says; the store may not be able to tell

    @property
    def loaded(self) -> bool:
        """The whole snapshot of every node is on the target."""
        received = bool(self.nodes) and all(node.snapshot_done for node in self.nodes)
        waiting = sum(load.chunks.get(state, 0) for load in self.loads for state in PENDING)
        return received and waiting == 0

    @property
    def settled(self) -> bool:
        """No expiry is held any more."""
        return bool(self.nodes) and all(node.settled for node in self.nodes)

    @property
    def in_sync(self) -> bool:
        """Nothing is behind and held expiries are settled; of a cluster, every slot is somebody's."""
        return self.settled and all(node.in_sync for node in self.nodes) and self._carried

    @property
    def _carried(self) -> bool:
        """Whether no slot of a cluster is on its way from one node's stream to another's."""
        shards = [node.shard for node in self.nodes if node.shard is not None]
        return not shards or sum(last - first + 1 for shard in shards for first, last in shard.slots) >= SLOTS


PENDING = (ChunkState.READY, ChunkState.RUNNING)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended: an exit code and, unless it is 0 or a signal's, the error."""

    code: int
    error: KeyferryError | None = None


def decide(reading: Reading, until: Until, before: dict[int, int]) -> Outcome | None:
    """The outcome that `reading` means, or None: go on.

    Args:
        before: epoch of each node by id as this run began. What a node says of being in sync counts only once
            a stream job of this run has taken it: until then it is yesterday's word.
    """
    if reading.task.state == TaskState.FAILED:
        error = failure(reading.task)
        return Outcome(error.exit_code, error)
    if reading.task.state == TaskState.FINISHED:
        return Outcome(0)  # cut over, whatever was waited for
    if until == Until.FULL and reading.loaded and reading.settled:
        return Outcome(0)
    fresh = all(node.epoch > before.get(node.id, -1) for node in reading.nodes)
    if until == Until.IN_SYNC and fresh and reading.in_sync:
        return Outcome(0)
    return None


def failure(task: TaskView) -> KeyferryError:
    """The error that a failed task's row holds, as an error again."""
    held = task.error or {}
    side = Side(held.get("side", Side.CONTROL))
    return KeyferryError(
        held.get("message") or "the task has failed",
        code=held.get("code", "failed"),
        side=side if side in EXIT_CODES else Side.CONTROL,
        hint=held.get("hint", ""),
    )
