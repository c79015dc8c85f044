"""What metrics are made of: all tasks at one look, in at most eight queries however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, cast, func, select
from sqlalchemy.orm import Session

from sync_tasks import names
from sync_tasks.models import Big, Chunk, Lease, Node, Op, RetryWindow, Task
from sync_tasks.states import ChunkState, OpKind, OpState, TaskState
from sync_tasks.store import leases, rows, sharing, windows
from sync_tasks.store.database import Database
from sync_tasks.verification import KINDS
from sync_tasks.views import RetryView

LIVE = Task.state != TaskState.RELEASED
"""What is released shows no more: its numbers would stay for ever."""
_RESULT = Op.options["result"]
OF_VERIFICATION = ("compared", *KINDS, "repaired")
NODE = (
    Node.id, Node.task_id, Node.number, Node.wanted, Node.gen, Node.received_offset, Node.applied_offset,
    Node.source_offset, Node.delay_ms, Node.windows, Node.in_sync, Node.held, Node.keys_total, Node.bytes_total,
    Lease.owner, Lease.epoch, Lease.beat,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measures:
    """One look. Rows are as the queries below name their columns.

    Args:
        tasks: id, uid, account, name, state.
        nodes: `NODE`.
        chunks: node_id, task_id, state, number, keys and bytes done; of present snapshots.
        retries: open windows, by task.
        verifications: the last one of each task that was verified: task_id and `OF_VERIFICATION`.
        leader: owner, epoch and beat of the scheduler's lease; None: none has led yet.
    """

    tasks: Sequence[Any]
    nodes: Sequence[Any]
    chunks: Sequence[Any]
    retries: dict[int, list[RetryView]]
    verifications: Sequence[Any]
    leader: Any


def measures(database: Database, now: float) -> Measures:
    """What is true now.

    Args:
        now: Unix seconds, for the time that retry windows have left.

    Raises:
        ControlError: the database cannot be used.
    """
    with database.read() as session:
        return Measures(
            session.execute(
                select(Task.id, Task.uid, Task.account, Task.name, Task.state).where(LIVE).order_by(Task.id)
            ).all(),
            session.execute(
                select(*NODE)
                .join(Task, Task.id == Node.task_id)
                .outerjoin(Lease, Lease.name == leases.OF_NODE)
                .where(LIVE)
                .order_by(Node.id)
            ).all(),
            session.execute(
                select(
                    Chunk.node_id, Chunk.task_id, Chunk.state, func.count().label("number"),
                    rows.KEYS_DONE.label("keys_done"), rows.BYTES_DONE.label("bytes_done"),
                )
                .join(Node, and_(Node.id == Chunk.node_id, Node.gen == Chunk.gen))
                .join(Task, Task.id == Node.task_id)
                .where(LIVE)
                .group_by(Chunk.node_id, Chunk.task_id, Chunk.state)
            ).all(),
            _retries(session, now),
            _verifications(session),
            session.execute(
                select(Lease.owner, Lease.epoch, Lease.beat).where(Lease.name == names.SCHEDULER_LEASE)
            ).one_or_none(),
        )  # fmt: skip


def _retries(session: Session, now: float) -> dict[int, list[RetryView]]:
    found: dict[int, list[RetryWindow]] = {}
    for row in session.scalars(select(RetryWindow).order_by(RetryWindow.id)):
        found.setdefault(row.task_id, []).append(row)
    lengths = sharing.lengths(session, list(found)) if found else {}
    return {task_id: windows.view(opened, lengths[task_id], now) for task_id, opened in found.items()}


def _verifications(session: Session) -> Sequence[Any]:
    """Counts alone, picked out by the database: a result names up to a thousand keys."""
    done = (Op.kind == OpKind.VERIFY, Op.state == OpState.DONE)
    last = select(func.max(Op.id)).join(Task, Task.id == Op.task_id).where(*done, LIVE).group_by(Op.task_id)
    counts = [cast(_RESULT[name].as_string(), Big).label(name) for name in OF_VERIFICATION]
    return session.execute(select(Op.task_id, *counts).where(Op.id.in_(last))).all()


CHUNKS_SHOWN = (ChunkState.READY, ChunkState.RUNNING, ChunkState.DONE)
