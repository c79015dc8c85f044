"""Messages of rows, with what people read in them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from sync_tasks import messages
from sync_tasks.messages import Message
from sync_tasks.models import Chunk, Node, Op, Task
from sync_tasks.states import OpKind


def follows(session: Session, node_ids: Collection[int]) -> list[Message]:
    """FOLLOW of nodes, to where their logs lie."""
    if not node_ids:
        return []
    query = select(Node.id, Task.name, Node.number, Node.spool).join(Task, Task.id == Node.task_id)
    return [messages.follow(*row) for row in session.execute(query.where(Node.id.in_(node_ids)).order_by(Node.id))]


def loads(session: Session, chunk_ids: Collection[int]) -> list[Message]:
    """LOAD of chunks, to where their files lie."""
    if not chunk_ids:
        return []
    other = aliased(Chunk)
    count = select(func.count()).where(other.node_id == Chunk.node_id, other.gen == Chunk.gen).scalar_subquery()
    query = (
        select(
            Chunk.id, Task.name, Node.number, Chunk.db, Chunk.shard, Chunk.seq, Chunk.spool, Node.snapshot_done, count
        )
        .join(Node, Node.id == Chunk.node_id)
        .join(Task, Task.id == Chunk.task_id)
        .where(Chunk.id.in_(chunk_ids))
        .order_by(Chunk.id)
    )
    return [
        messages.load(chunk_id, name, number, db, shard, seq, spool, total if whole else None)
        for chunk_id, name, number, db, shard, seq, spool, whole, total in session.execute(query)
    ]


def ops(session: Session, op_ids: Collection[int]) -> list[Message]:
    """OPS of operations, PART of those that are parts of a verification."""
    if not op_ids:
        return []
    query = select(Op.id, Task.name, Op.kind, Op.options).join(Task, Task.id == Op.task_id)
    return [
        messages.part(op_id, name, options["says"]) if kind == OpKind.PART else messages.op(op_id, name, kind)
        for op_id, name, kind, options in session.execute(query.where(Op.id.in_(op_ids)).order_by(Op.id))
    ]
