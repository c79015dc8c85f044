"""Rows as the frozen views that leave the store, and the queries that count progress."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float, Select, and_, case, cast, func, select
from sqlalchemy.orm import Session

from sync_tasks import lanes
from sync_tasks.models import Big, Chunk, Event, Lease, Node, Op, Task
from sync_tasks.slots import read
from sync_tasks.spec import TaskSpec, mapping
from sync_tasks.states import ChunkState, OpKind, OpState, Stage, TaskState
from sync_tasks.store import leases
from sync_tasks.views import ChunkView, EventView, LoadState, NodeView, OpView, ShardView, TaskView

# A chunk voided within its own snapshot is on the target already: the stream had begun there.
_keys = case((Chunk.state == ChunkState.VOID, Chunk.keys), else_=Chunk.keys_done)
_part = cast(Chunk.bytes, Float) * Chunk.keys_done / func.nullif(Chunk.keys, 0)
_bytes = case(
    (Chunk.state.in_([ChunkState.VOID, ChunkState.DONE]), Chunk.bytes),
    else_=func.coalesce(cast(_part, Big), 0),
)

KEYS_DONE = func.coalesce(func.sum(_keys), 0)
BYTES_DONE = func.coalesce(func.sum(_bytes), 0)

NODE_FIELDS = (
    "id", "task_id", "number", "wanted", "fresh", "begun", "gen", "replid", "snapshot_offset", "stream_db",
    "snapshot_done", "received_offset", "applied_offset", "source_offset", "delay_ms", "in_sync", "settled",
    "held", "keys_total", "bytes_total", "spool", "turn", "finished", "receive_bytes", "resting",
    "unextended", "changed_offset", "changed_by", "way_back", "begins_at", "spoiled",
)  # fmt: skip
CHUNK_FIELDS = (
    "id", "node_id", "task_id", "gen", "seq", "db", "shard", "huge", "path", "keys", "bytes",
    "attempts", "epoch",
)  # fmt: skip


def spec_of(row: Task) -> TaskSpec:
    """The stored settings."""
    return TaskSpec.model_validate(row.spec)


def task_view(row: Task) -> TaskView:
    """A copy of a task's row."""
    spec = spec_of(row)
    databases = mapping(spec.databases, row.source_db, row.target_db)
    extents = row.extents or {"home": home_of(databases), "former": []}
    return TaskView(
        id=row.id,
        uid=row.uid,
        name=row.name,
        state=TaskState(row.state),
        source=row.source_safe,
        target=row.target_safe,
        spec=spec,
        databases=databases,
        error=row.error,
        finishing=row.finishing,
        created_at=row.created_at,
        account=row.account,
        home=extents["home"],
        former=tuple(extents["former"]),
        lanes=lanes.read(row.lanes),
        cutover=Stage(row.cutover) if row.cutover else None,
    )


def home_of(databases: dict[int, int] | None) -> int:
    """The target database of Keyferry's own keys when a run begins: 0, or the lowest one in scope."""
    return 0 if databases is None else min(databases.values(), default=0)


def nodes(session: Session, where: Select[Any]) -> list[NodeView]:
    """Copies of the nodes whose ids the query gives, with the progress of their present snapshots."""
    query = (
        select(Node, func.coalesce(func.max(Lease.epoch), 0), KEYS_DONE, BYTES_DONE)
        .outerjoin(Chunk, and_(Chunk.node_id == Node.id, Chunk.gen == Node.gen))
        .outerjoin(Lease, Lease.name == leases.OF_NODE)
        .where(Node.id.in_(where))
        .group_by(Node.id)
        .order_by(Node.task_id, Node.number)
    )
    return [
        NodeView(
            **{name: getattr(node, name) for name in NODE_FIELDS},
            keys_done=int(keys),
            bytes_done=int(size),
            epoch=epoch,
            shard=shard_view(node.shard),
        )
        for node, epoch, keys, size in session.execute(query)
    ]


def shard_view(row: dict[str, Any] | None) -> ShardView | None:
    """Which shard of a cluster a node is, of its column."""
    if row is None:
        return None
    gen, end = row.get("drained", (0, 0))
    slots = read(row["slots"]), read(row["holds"])
    return ShardView(tuple(row["members"]), row["address"], *slots, (gen, end), row.get("gone", False))


def chunk_view(row: Chunk) -> ChunkView:
    """A copy of a chunk's row."""
    return ChunkView(**{name: getattr(row, name) for name in CHUNK_FIELDS}, state=ChunkState(row.state))


def op_view(row: Op) -> OpView:
    """A copy of an operation's row."""
    return OpView(
        id=row.id,
        task_id=row.task_id,
        kind=OpKind(row.kind),
        state=OpState(row.state),
        options=dict(row.options),
        attempts=row.attempts,
        epoch=row.epoch,
        error=row.error,
    )


def event_view(row: Event) -> EventView:
    """A copy of an event's row."""
    return EventView(id=row.id, task_id=row.task_id, at=row.at, kind=row.kind, text=row.text)


def load_state(session: Session, node_id: int, gen: int) -> LoadState:
    """How far a snapshot is; voided chunks are nobody's work and are not counted as chunks."""
    live = case((Chunk.state != ChunkState.VOID, 1), else_=0)
    done = case((Chunk.state == ChunkState.DONE, 1), else_=0)
    query = select(func.coalesce(func.sum(live), 0), func.coalesce(func.sum(done), 0), KEYS_DONE, BYTES_DONE).where(
        Chunk.node_id == node_id, Chunk.gen == gen
    )
    chunks, finished, keys, size = session.execute(query).one()
    return LoadState(chunks=int(chunks), done=int(finished), keys_done=int(keys), bytes_done=int(size))
