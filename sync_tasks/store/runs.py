"""Runs of a task: started, stopped, ended."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from sync_tasks import lifecycle, names
from sync_tasks.errors import ControlError, KeyferryError
from sync_tasks.models import Chunk, Lease, Node, Task
from sync_tasks.states import RUNNING, ChunkState, TaskState
from sync_tasks.store import locks, receiving
from sync_tasks.store.base import StoreBase


class Runs(StoreBase):
    """What an operator, or an error, does to a task."""

    def transition(self, task_id: int, state: TaskState, reason: str, error: KeyferryError | None = None) -> None:
        """Change the task's state; nothing happens if it is there. Raises ControlError if it must not."""
        with self._task(task_id) as (session, task):
            lifecycle.move(session, task, state, reason, error)

    def fail(self, task_id: int, error: KeyferryError) -> None:
        """End the task with an error, once."""
        with self._task(task_id) as (session, task):
            lifecycle.fail(session, task, error)

    def start(self, task_id: int) -> None:
        """An operator's start: all streams wanted and fresh, every lease and chunk free to be taken."""
        with self._run(task_id) as (session, task):
            if task.state in (TaskState.FINISHED, TaskState.RELEASED):
                raise ControlError(f"the task is {task.state}", hint="make a new one", code="transition")
            begin(session, task)

    def stop(self, task_id: int) -> None:
        """Ask the streams to stop at a checkpoint."""
        with self.database.write() as session:
            locks.tasks(session, [task_id])
            session.execute(update(Node).where(Node.task_id == task_id).values(wanted=False))

    def suspend(self, task_id: int) -> None:
        """The task rests until the next start; one that has failed or ended stays so."""
        with self._task(task_id) as (session, task):
            if task.state in RUNNING:
                lifecycle.move(session, task, TaskState.SUSPENDED, "stopped")


def begin(session: Session, task: Task) -> None:
    """Start a task that rests: its leases and itself are held."""
    if task.state in (TaskState.PRECHECK_PASSED, TaskState.SUSPENDED, TaskState.FAILED):
        lifecycle.move(session, task, lifecycle.phase(session, task.id), "started")
    # An owner that only receives goes on with the rest of its work: the source would notice a change of hands.
    mine = select(Node.id).where(Node.task_id == task.id, Node.resting.is_(False))
    held = [names.node_lease(node_id) for node_id in session.scalars(mine)]
    session.execute(update(Lease).where(Lease.name.in_(held)).values(owner=None))
    _begin_anew(session, task.id)


def stop(session: Session, task: Task, reason: str) -> None:
    """Let a running task rest; its streams end at a checkpoint, and are received no more."""
    received = select(Node.id).where(Node.task_id == task.id, Node.wanted, Node.receive_bytes.is_not(None)).limit(1)
    if session.scalar(received) is not None:
        lifecycle.note(session, task.id, receiving.KIND, f"{reason}; its stream is received no more")
    session.execute(update(Node).where(Node.task_id == task.id).values(wanted=False, receive_bytes=None, resting=False))
    if task.state in RUNNING:
        lifecycle.move(session, task, TaskState.SUSPENDED, reason)


def _begin_anew(session: Session, task_id: int) -> None:
    """Nodes wanted, chunks to be sent again; what the last run found out about the delay is of the past."""
    session.execute(
        update(Node)
        .where(Node.task_id == task_id)
        .values(
            wanted=True,
            fresh=True,
            turn=False,
            receive_bytes=None,
            resting=False,
            dispatched_at=None,
            next_at=None,
            in_sync=False,
            settled=False,
            delay_ms=None,
        )
    )
    session.execute(
        update(Chunk)
        .where(Chunk.task_id == task_id, Chunk.state.in_([ChunkState.READY, ChunkState.RUNNING]))
        .values(state=ChunkState.READY, owner=None, dispatched_at=None, next_at=None, keys_done=0)
    )


def take_up(session: Session, task: Task) -> None:
    """End the shifts of streams that have a checkpoint to end at; a load would have to begin anew."""
    streaming = [Node.task_id == task.id]
    if lifecycle.can(task, TaskState.MODIFYING):
        lifecycle.move(session, task, TaskState.MODIFYING, "the stream takes up its new settings")
    elif task.state != TaskState.MODIFYING:
        streaming.append(Node.applied_offset.is_not(None))
    session.execute(update(Node).where(*streaming).values(turn=True))
