"""Nodes, chunks and operations whose owner is known to be dead."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from sync_tasks.errors import ControlError, Retry
from sync_tasks.models import Chunk, Node, Op, Task
from sync_tasks.retry_policy import pause
from sync_tasks.states import ChunkState, OpState
from sync_tasks.store import leases, locks, windows

SUSPECT = 5
"""A chunk that lost so many loaders may be what kills them: from then on a retry window runs."""


def free_nodes(session: Session, freed: Collection[str]) -> None:
    """Send nodes at once whose leases were freed, in this transaction, under these names."""
    if not freed:
        return
    mine = leases.OF_NODE.in_(freed)
    locks.tasks(session, session.scalars(select(Node.task_id).where(mine)))
    session.execute(
        update(Node)
        .where(mine)
        .values(dispatched_at=None, next_at=None, in_sync=False, delay_ms=None, resting=False)
        .execution_options(synchronize_session=False)
    )


def free_chunks(session: Session, where: ColumnElement[bool], now: float, rng: Random) -> list[Chunk]:
    """Make running chunks that match READY again: the first time at once, then after growing pauses.

    Args:
        now: Unix seconds, for the pauses and the retry window in which they lie.
    """
    lost = (Chunk.state == ChunkState.RUNNING, where)
    tasks = locks.tasks(session, session.scalars(select(Chunk.task_id).where(*lost).distinct()))
    query = select(Chunk).where(*lost, Chunk.task_id.in_(tasks)).order_by(Chunk.id)
    chunks = list(session.scalars(query.with_for_update(skip_locked=True)))
    for chunk in chunks:
        chunk.state = ChunkState.READY
        chunk.owner = None
        chunk.keys_done = 0
        chunk.dispatched_at = None
        chunk.attempts += 1
        chunk.next_at = now + pause(chunk.attempts - 1, rng) if chunk.attempts > 1 else None
        if chunk.attempts >= SUSPECT:
            _suspect(session, tasks[chunk.task_id], chunk, now, rng)
    return chunks


def free_ops(session: Session, where: ColumnElement[bool]) -> list[int]:
    """Make running operations that match READY again, and have them sent at once; their ids.

    Who holds such a row beats, ends it, or frees it, too.
    """
    lost = select(Op.id).where(Op.state == OpState.RUNNING, where).with_for_update(skip_locked=True)
    ids = list(session.scalars(lost))
    session.execute(
        update(Op)
        .where(Op.id.in_(ids))
        .values(state=OpState.READY, owner=None, dispatched_at=None)
        .execution_options(synchronize_session=False)
    )
    return ids


def _suspect(session: Session, task: Task, chunk: Chunk, now: float, rng: Random) -> None:
    error = ControlError(
        f"a load worker has died or failed {chunk.attempts} times over chunk {chunk.id}",
        hint="see the log of the load workers, and whether the machine is out of memory",
        code="loader-died",
        retry=Retry.OTHER,
    )
    windows.failed(session, task, error, windows.LOAD, now, rng)
