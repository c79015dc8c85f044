"""Chunks whose loader is known to be dead."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from sqlalchemy.orm import Session

from sync_tasks import lifecycle
from sync_tasks.errors import ControlError, Retry
from sync_tasks.models import Chunk, Task
from sync_tasks.retry_policy import pause
from sync_tasks.states import RUNNING, ChunkState
from sync_tasks.store import windows

SUSPECT = 5
"""A chunk that lost so many loaders may be what kills them: from then on a retry window runs."""


def free(session: Session, chunks: Iterable[Chunk], now: float, rng: Random) -> None:
    """Make chunks READY again: the first time at once, then after growing pauses, within the retry window."""
    for chunk in chunks:
        chunk.state = ChunkState.READY
        chunk.owner = None
        chunk.keys_done = 0
        chunk.dispatched_at = None
        chunk.attempts += 1
        chunk.next_at = now + pause(chunk.attempts - 1, rng) if chunk.attempts > 1 else None
        if chunk.attempts >= SUSPECT:
            _suspect(session, chunk, now, rng)


def _suspect(session: Session, chunk: Chunk, now: float, rng: Random) -> None:
    error = ControlError(
        f"a load worker has died or failed {chunk.attempts} times over chunk {chunk.id}",
        hint="see the log of the load workers, and whether the machine is out of memory",
        code="loader-died",
        retry=Retry.OTHER,
    )
    task = session.get_one(Task, chunk.task_id, with_for_update=True)
    if task.state in RUNNING and windows.failed(session, task, error, windows.LOAD, now, rng)[1]:
        lifecycle.fail(session, task, error)
