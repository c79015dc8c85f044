"""What the store hands out: frozen copies of rows, free of any session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sync_tasks.access.documents import TrustPolicy
from sync_tasks.lanes import Lane
from sync_tasks.sharing import Shortest
from sync_tasks.slots import Ranges, written
from sync_tasks.spec import TaskSpec
from sync_tasks.states import ChunkState, OpKind, OpState, Stage, TaskState
from sync_tasks.throttle import NO_LIMITS, Limits


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task. `source` and `target` are URLs without secrets, for showing.

    `databases` are those of `spec` with the URLs' /db; `shared` is the window for failed connections that holds.
    `former` are the extents that the task's run had before, as `Extent.text`, the first one first.
    """

    id: int
    uid: str  # 16 hex digits, made once; part of every key on the target
    name: str
    state: TaskState
    source: str
    target: str
    spec: TaskSpec
    databases: dict[int, int] | None  # source to target number; None: all, each to its own
    error: dict[str, str] | None  # code, side, message, hint
    finishing: bool = False  # the cut-over was asked for
    created_at: datetime | None = None
    account: str = ""  # whose it is; "": the installation's own
    shared: Shortest | None = None  # of a task that runs, as `Store.task` and the lists give it
    home: int = 0  # target database of Keyferry's own keys
    former: tuple[str, ...] = ()
    lanes: tuple[Lane, ...] = ()  # of a target that is a cluster, once it was first written to
    cutover: Stage | None = None  # how far the cut-over is that was asked for


@dataclass(frozen=True, slots=True)
class AccountView:
    """Whose instances, tasks and roles are kept apart from others'."""

    name: str
    description: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RoleView:
    """What another account may be, to use instances of this one."""

    account: str
    name: str
    description: str
    policies: tuple[str, ...]
    trust: TrustPolicy


@dataclass(frozen=True, slots=True)
class TokenView:
    """What lets a program in as an account; the token itself is not kept."""

    id: int
    account: str
    name: str
    scope: str  # read, operate, admin
    expires_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AuditView:
    """What somebody has asked of an account's instance, and what was answered."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    allowed: bool
    text: str


@dataclass(frozen=True, slots=True)
class InstanceView:
    """A server that is known by a name. `url` is without secrets, for showing."""

    account: str  # "": the installation's own
    name: str
    url: str
    created_at: datetime
    tasks: int  # that have not ended and use it


@dataclass(frozen=True, slots=True)
class ShardView:
    """The shard of a cluster that a source node is.

    members: names of its servers, by which it is found after a failover. address: of its master, when last seen.
    slots: that its stream carries to the target. holds: those, and what an owner of the stream may still carry there.
    drained: of the slots that it has given up: the snapshot below its stream then, and the offset behind all that came
    of them there; before that they are not on the target as they were left.
    gone: its servers serve no slot any more: they have none, or are in another node's shard, whose master is followed
    then.
    """

    members: tuple[str, ...]
    address: str
    slots: Ranges
    holds: Ranges
    drained: tuple[int, int] = (0, 0)
    gone: bool = False


@dataclass(frozen=True, slots=True)
class NodeView:
    """One source node (replication stream) of a task. Unknown is None, never 0."""

    id: int
    task_id: int
    number: int  # 0.. within the task
    wanted: bool  # the stream job should run
    fresh: bool  # an operator has just started it: the claim takes max(own, target's) + 1
    begun: bool  # a first window was committed: a missing checkpoint is then an error
    gen: int  # number of the present snapshot, 0 before the first
    replid: str | None
    snapshot_offset: int | None
    stream_db: int  # the stream's database at snapshot_offset
    snapshot_done: bool  # all chunks of `gen` are recorded
    received_offset: int | None  # in the log on disk
    applied_offset: int | None  # in the target's checkpoint
    source_offset: int | None  # of the source, when last asked
    delay_ms: float | None
    in_sync: bool
    settled: bool
    held: int | None  # expiries still held, when last counted
    keys_done: int
    keys_total: int | None
    bytes_done: int
    bytes_total: int | None
    epoch: int
    spool: str | None = None  # where its log lies; None: where all workers look
    turn: bool = False  # the present shift is to end at a checkpoint
    finished: bool = False  # cut over
    receive_bytes: int | None = None  # its task is suspended: received alone, until so many bytes wait on disk
    resting: bool = False  # and the job has come to a checkpoint: it applies nothing
    shard: ShardView | None = None  # of a cluster

    @property
    def address(self) -> str | None:
        """Of a cluster: where the master of its shard was when last seen."""
        return self.shard.address if self.shard else None

    @property
    def slots(self) -> str | None:
        """Of a cluster: the hash slots that its stream carries, as 0-5460,7000."""
        return written(self.shard.slots) if self.shard else None

    @property
    def slot_ranges(self) -> Ranges | None:
        """The same as ranges; None: it is no cluster, all keys are its own."""
        return self.shard.slots if self.shard else None
    unextended: bool = False  # in its cut-over: every expiry is the source's own, but for what was just written
    changed_offset: int | None = None  # of the stream, behind the last command in scope that was committed
    changed_by: str | None = None  # in its cut-over: that command's name
    way_back: str | None = None  # cut over: where the target's own stream stood then, as `sync_tasks.point.Point`
    begins_at: str | None = None  # where its stream begins, as `Point`; None: as the task's settings say
    spoiled: str | None = None  # "<gen> damaged" or "<gen> outdated": so a loader elsewhere has found its snapshot

    @property
    def receiving(self) -> bool:
        """Its task is suspended, and its stream is received to disk all the same."""
        return self.wanted and self.receive_bytes is not None

    @property
    def on_disk_bytes(self) -> int | None:
        """Bytes of the stream on disk that the target has not."""
        if self.received_offset is None or self.applied_offset is None:
            return None
        return max(0, self.received_offset - self.applied_offset)


@dataclass(frozen=True, slots=True)
class Orders:
    """What is asked of a running stream job."""

    wanted: bool = True  # else: stop at a checkpoint
    turn: bool = False  # stop at a checkpoint, another shift begins
    finishing: bool = False  # drain, settle, close the target for good
    settling: bool = False  # settle as for that, and go on; no more of it: back to how it was
    receive_bytes: int | None = None  # apply nothing; receive until so many bytes wait on disk
    resting: bool = False  # that was acknowledged
    limits: Limits = NO_LIMITS  # how fast it may write
    slots: str | None = None  # of a cluster: what the node is to carry, as 0-5460,7000


RANGE = ".range"
"""Ends the path of a chunk that is still to be read from the source."""
STORED = "object:/"
"""Begins the path of a chunk in the object store of the spool: a name in it follows, which is its path in a spool."""


@dataclass(frozen=True, slots=True)
class ChunkView:
    """One piece of a snapshot, or a range of a source that is read by SCAN (`workers.spool.ranges`)."""

    id: int
    node_id: int
    task_id: int
    gen: int
    seq: int  # 0.. within the snapshot
    db: int  # source database
    shard: int
    huge: bool  # one value, too large to hold in memory
    path: str
    keys: int
    bytes: int
    state: ChunkState
    attempts: int
    epoch: int

    @property
    def is_range(self) -> bool:
        """Whether it is still to be read."""
        return self.path.endswith(RANGE)

    @property
    def is_stored(self) -> bool:
        """Whether its file is in the object store of the spool."""
        return self.path.startswith(STORED)


@dataclass(frozen=True, slots=True)
class LoadState:
    """How far the load of one snapshot is."""

    chunks: int
    done: int
    keys_done: int
    bytes_done: int


@dataclass(frozen=True, slots=True)
class RetryView:
    """An open retry window."""

    kind: str
    side: str
    attempts: int
    seconds_left: float
    code: str  # of the last error
    last_error: str
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class DatabaseLoad:
    """Chunks of one source database in the present snapshots of a task, as far as they were received."""

    db: int
    chunks: dict[ChunkState, int]
    keys: int
    keys_done: int
    bytes: int
    bytes_done: int


@dataclass(frozen=True, slots=True)
class EventView:
    """What happened to a task, for people; holds no secret."""

    id: int
    task_id: int
    at: datetime
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class OpView:
    """An operation that a worker carries out."""

    id: int
    task_id: int
    kind: OpKind
    state: OpState
    options: dict[str, Any]  # as `Store.request` names them
    attempts: int
    epoch: int
    error: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class PrecheckItemView:
    """What a precheck has found of one item, or that it is ignored before it was asked."""

    item: str  # its id
    finding: str | None  # passed, warning, failed, skipped; None: not asked yet
    found: str
    repair: str
    ignored: bool
    at: datetime | None
