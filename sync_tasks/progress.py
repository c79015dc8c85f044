"""How far a task is, for programs: the fields of `keyferry sync --json` (SPEC 7), computed once, here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sync_tasks.errors import ControlError, KeyferryError, Side, SourceError, SpoolFull, TargetError, UsageError
from sync_tasks.states import TaskState
from sync_tasks.supervise.outcome import Reading
from sync_tasks.views import NodeView, RetryView

WAITS_FOR_ROOM = SpoolFull("the disk of the state directory is full", hint="make room: it goes on by itself")
SUMS = ("source_offset", "applied_offset", "keys_done", "keys_total", "bytes_done", "bytes_total")
TYPES: dict[Side, type[KeyferryError]] = {
    Side.USAGE: UsageError,
    Side.SOURCE: SourceError,
    Side.TARGET: TargetError,
    Side.CONTROL: ControlError,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong: a stable name, the side whose fault it is, the cause, what to do."""

    code: str
    side: Side
    message: str
    hint: str

    @classmethod
    def of(cls, error: KeyferryError) -> Problem:
        """Of an error that was raised."""
        return cls(error.code, error.side, error.message, error.hint)

    @classmethod
    def held(cls, row: Mapping[str, str] | None) -> Problem | None:
        """Of an error as the database holds it."""
        if not row:
            return None
        side = row.get("side")
        known = Side(side) if side in set(Side) else Side.CONTROL
        return cls(row.get("code", "failed"), known, row.get("message", ""), row.get("hint", ""))

    def exception(self) -> KeyferryError:
        """The same, to be raised: of the class that belongs to its side."""
        return TYPES[self.side](self.message, hint=self.hint, code=self.code)


@dataclass(frozen=True, slots=True)
class RetryState:
    """An open retry window."""

    kind: str  # "connection" or "other"
    side: str
    attempts: int
    seconds_left: float
    last_error: str

    @classmethod
    def of(cls, view: RetryView | None) -> RetryState | None:
        """None if none is open."""
        if view is None:
            return None
        left = round(max(0.0, view.seconds_left), 1)
        return cls(view.kind, view.side, view.attempts, left, view.last_error)


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """One source node. Unknown is None, never 0."""

    number: int  # 0.. within the task
    address: str | None  # of a cluster: host:port of its shard's master, when last seen; None: it stands alone
    slots: str | None  # of a cluster: the hash slots that its stream carries, as 0-5460,7000; None: it stands alone
    replid: str | None
    source_offset: int | None  # bytes of the stream, as the source said last
    received_offset: int | None  # bytes, in the log on disk
    applied_offset: int | None  # bytes, committed on the target
    on_disk_bytes: int | None  # received, and not on the target
    receiving: bool  # its task is suspended, and its stream is received to disk all the same
    receive_bytes: int | None  # so many bytes may wait on disk then; None: none are received while it is suspended
    delay_ms: float | None
    in_sync: bool
    settled: bool  # no expiry is held
    held: int | None  # expiries still held
    snapshot_done: bool  # received whole
    keys_done: int
    keys_total: int | None
    bytes_done: int
    bytes_total: int | None
    epoch: int  # how often its stream has changed hands

    @classmethod
    def of(cls, view: NodeView) -> NodeProgress:
        """What is known of a node."""
        return cls(**{field.name: getattr(view, field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task is. Unknown is None, never 0; offsets and counts are sums over the nodes."""

    phase: TaskState
    in_sync: bool | None = None  # nothing is behind, and no expiry is held
    delay_ms: float | None = None  # source write to target commit, the worst of the nodes
    source_offset: int | None = None  # bytes
    applied_offset: int | None = None  # bytes
    keys_done: int | None = None
    keys_total: int | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    retry: RetryState | None = None  # of several windows, the one that closes first
    error: Problem | None = None  # why it failed, or what it waits for
    nodes: tuple[NodeProgress, ...] = ()

    @classmethod
    def of(cls, reading: Reading) -> Progress:
        """What one look at the database says."""
        nodes = tuple(map(NodeProgress.of, reading.nodes))
        return cls(
            phase=reading.task.state,
            in_sync=reading.in_sync if nodes else None,
            delay_ms=_over(max, (node.delay_ms for node in nodes)),
            retry=RetryState.of(most_pressing(reading.retries)),
            error=current_error(reading),
            nodes=nodes,
            **{name: _over(sum, (getattr(node, name) for node in nodes)) for name in SUMS},
        )

    def as_dict(self) -> dict[str, Any]:
        """The object of `--json`: only types that JSON knows."""
        return asdict(self) | {"nodes": [asdict(node) for node in self.nodes]}


def most_pressing(retries: Iterable[RetryView]) -> RetryView | None:
    """Of several open windows, the one that closes first."""
    return min(retries, key=lambda retry: retry.seconds_left, default=None)


def current_error(reading: Reading) -> Problem | None:
    """Of a failed task its error; of a waiting one the full disk it waits for."""
    if reading.task.error:
        return Problem.held(reading.task.error)
    return Problem.of(WAITS_FOR_ROOM) if reading.disk_full else None


def _over(combine: Any, values: Iterable[Any]) -> Any:
    known = list(values)
    return None if not known or None in known else combine(known)
