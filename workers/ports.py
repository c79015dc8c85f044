"""What the data plane needs of the control plane; the store satisfies it, so do the tests' fakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sync_tasks.errors import KeyferryError
from sync_tasks.lanes import Closed, Lane
from sync_tasks.precheck.item import Result
from sync_tasks.slots import Ranges
from sync_tasks.states import Stage
from sync_tasks.throttle import Limits
from sync_tasks.topology import Shard
from sync_tasks.views import ChunkView, LoadState, NodeView, OpView, Orders, TaskView


class StreamPort(Protocol):
    """One claimed stream job. Every write is fenced by the lease's epoch and raises `Fenced` once it is lost."""

    task: TaskView

    @property
    def epoch(self) -> int: ...

    def node(self) -> NodeView: ...

    @property
    def moved(self) -> bool:
        """Whether the last owner's spool is another one: what lies in ours is older than the stream."""

    def renew(self) -> Orders:
        """Beat of the lease; what is asked of the job. Raises `Fenced` when the lease is lost."""

    def raise_epoch(self, epoch: int) -> None:
        """Take a higher epoch (operator's start over a copy); clears `fresh`."""

    def begin_snapshot(
        self,
        replid: str,
        offset: int,
        db: int,
        keys_total: int | None,
        bytes_total: int | None,
        gen: int | None = None,
    ) -> int:
        """Void the chunks of earlier snapshots; the new gen: the one given, or the next."""

    def add_chunk(self, *, gen: int, seq: int, db: int, shard: int, huge: bool, path: str, keys: int, size: int) -> int:
        """Record a complete chunk file as READY and, after commit, send it to a load worker; its id."""

    def end_snapshot(self, gen: int, keys: int, size: int | None) -> None: ...

    def load_state(self, gen: int) -> LoadState: ...

    def chunks(self, gen: int, *, every: bool = False) -> list[ChunkView]:
        """Of a snapshot. `every`: those too that go to other parts of the target."""

    def set_lanes(self, given: Sequence[Lane]) -> tuple[Lane, ...]:
        """The parts of a target that is a cluster, unless they are known: those that hold."""

    def change_lanes(self, before: Sequence[Lane], after: Sequence[Lane]) -> None:
        """Slots of the target have moved: all jobs of the task end at a checkpoint, and go on with other lanes."""

    def settle_lanes(self, numbers: Sequence[int]) -> None:
        """The node's stream has its place in these lanes, which were made later."""

    def close_lanes(self, closed: Mapping[int, Closed]) -> None:
        """The node's stream has closed its lanes, by their numbers: where a way back begins."""

    def reload(self, chunk_ids: list[int]) -> None:
        """Chunks that the target has lost: READY again and sent."""

    def void_chunks(self, gen: int) -> None: ...

    def begin_stream(self) -> None:
        """The first window was committed: `begun`; the task synchronizes."""

    def progress(self, values: Mapping[str, Any]) -> None:
        """Columns of the node to update: offsets, delay, in_sync, settled, held, keys, bytes."""

    def failing(self, error: KeyferryError) -> float:
        """Open or go on with the error's retry window; the pause in seconds. Raises `error` when it is fatal."""

    def healed(self, side: str, quiet_s: float = 0.0) -> None:
        """Close the retry windows of a side, once it has been quiet for so long; cheap when none is open."""

    def fail(self, error: KeyferryError) -> None:
        """End the task with an error, once."""

    def rests(self) -> None:
        """The task is suspended: the stream has ended at a checkpoint, and is received alone."""

    def receive_no_more(self, why: str) -> None:
        """Nor is it received any more; for people, why."""

    def reread(self) -> None:
        """`task` as it is now: it was suspended, and may have been modified."""

    def moved_in(self) -> None:
        """What lay in our spool is removed: from now on the log lies there."""

    def took_up(self) -> None:
        """The job works by the task's present settings."""

    def finished(self) -> None:
        """The target is closed to this stream for good."""

    def lay_out(self, found: Sequence[Shard]) -> None:
        """The source is a cluster of these shards: each becomes a node of the task."""

    def reshard(self, found: Sequence[Shard], serves: Ranges, end: int = 0) -> bool:
        """It is like this now, and our own shard serves these slots; whether our stream is to carry others. All that
        came here of those that it gives up lies before `end`."""

    def others(self) -> list[int]:
        """Numbers of the task's other source nodes that write to the target still."""

    def stand(self, offset: int | None) -> bool:
        """Our stream stands still at an offset, to be closed there; None: it goes on. Whether the streams of all nodes
        are to be closed where they stand."""

    def untaken(self) -> Ranges:
        """Slots that a node of the task has given up, and none has taken since."""

    def found_before(self) -> dict[str, Any] | None:
        """What earlier owners have found of the keys that the stream writes; None: nothing was looked at."""

    def touched(self, found: dict[str, Any]) -> None:
        """What was found of them so far."""

    def holds(self, slots: Ranges) -> None:
        """The target says that our stream acts on no other slots any more."""

    def event(self, kind: str, text: str) -> None: ...


class ChunkPort(Protocol):
    """One claimed chunk. Writes are fenced by the chunk's epoch."""

    task: TaskView
    chunk: ChunkView
    node_number: int
    limits: Limits  # how fast it may write, as of the last `renew`
    asking: Limits  # how fast it may ask the source, likewise

    def renew(self, keys_done: int) -> None:
        """Beat and progress; raises `Fenced` when taken away or void."""

    def was_read(self, path: str, keys: int, size: int) -> None:
        """What the chunk stands for is in that file; `chunk` says so from now on."""

    def add_huge(self, number: int, path: str, size: int) -> None:
        """A value of the same range, the `number`th that is too large to be with the others: READY in a file of its
        own."""

    def done(self, keys: int, left_out: str = "") -> None:
        """All is on the target, but for what it has no place for, in words."""


class OpPort(Protocol):
    """One claimed operation. Writes are fenced by its epoch."""

    task: TaskView
    op: OpView

    def renew(self) -> None:
        """A beat; raises `Fenced` when it was taken away."""

    def done(self) -> None:
        """Carried out: the task moves on."""

    def asked_items(self) -> set[str]:
        """Ids of the precheck items of which something was found before."""

    def found(self, results: list[Result]) -> None:
        """Keep what a precheck has found of some items."""

    def event(self, kind: str, text: str) -> None: ...


class TurnPort(OpPort, Protocol):
    """One claimed operation that goes on by turns, beside a task that runs."""

    def state(self) -> tuple[TaskView, list[NodeView]]:
        """The task and its nodes as they are now."""

    def keep(self, options: dict[str, Any]) -> None:
        """Remember how far it is."""

    def later(self, seconds: float, error: KeyferryError | None = None) -> None:
        """Give it back: somebody goes on with it after a pause."""


class PartPort(TurnPort, Protocol):
    """One claimed verification, or a part of one."""

    def parts(self) -> list[OpView]:
        """Those of the verification, in order."""

    def divide(self, pieces: Sequence[dict[str, Any]], options: dict[str, Any]) -> None:
        """Have these compared, and remember how far the verification is by that: both or nothing. Each names what it is
        in `piece`, and for people in `says`."""

    def anew(self) -> None:
        """All is to be cut anew: what the parts have found is not looked at, and those at work are over."""

    def at_once(self) -> int:
        """How many parts are at work now, the own one among them: they share what they may ask the servers."""


class CutOverPort(TurnPort, Protocol):
    """One claimed operation that cuts a task over, or watches its source afterwards."""

    def order(self, stage: Stage | None) -> None:
        """What the streams are to do. Once they are to close the target, that cannot be taken back."""

    def watch(self, options: dict[str, Any]) -> None:
        """Have the source watched from now on."""

    def reverse(self) -> str:
        """Make and start the task that goes back; its name."""


class AnyPort(CutOverPort, PartPort, Protocol):
    """One claimed operation, whatever it is."""
