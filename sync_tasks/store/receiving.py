"""Streams of suspended tasks that are received to disk all the same: asked for, and ended (`workers.intake` does it).

Of a node `receive_bytes` is what the operator asked for, `wanted` whether a job should do it, and `resting` whether one
does, and does nothing else.
"""

from __future__ import annotations

from random import Random

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync_tasks import lifecycle, units
from sync_tasks.errors import KeyferryError
from sync_tasks.models import Node, Task
from sync_tasks.retry_policy import pause
from sync_tasks.states import RUNNING, TaskState

KIND = "receiving"
"""Of its events."""


def receive(session: Session, task: Task, reason: str, limit: int) -> None:
    """Let a task rest while its streams are received; one that has not begun to stream stops, as it would without.

    Args:
        limit: bytes on disk behind the checkpoint, for each node.
    """
    nodes = session.scalars(select(Node).where(Node.task_id == task.id).order_by(Node.id).with_for_update()).all()
    asked = [node for node in nodes if node.begun and not node.finished]
    news = [node for node in asked if not _is_so(node, limit)]
    for node in nodes:
        if node in news:
            _ask(node, limit)
        elif node not in asked:
            node.wanted, node.receive_bytes, node.resting = False, None, False
    said = f"its stream is received to disk, up to {units.size(limit)}"
    if task.state in RUNNING:
        lifecycle.move(session, task, TaskState.SUSPENDED, f"{reason}; {said}" if asked else reason)
    elif news:
        lifecycle.note(session, task.id, KIND, said)


def _is_so(node: Node, limit: int) -> bool:
    """Whether it is received up to this limit already, or was until it was reached."""
    waiting = (node.received_offset or 0) - (node.applied_offset or 0)
    return node.receive_bytes == limit and (node.wanted or waiting >= limit)


def _ask(node: Node, limit: int) -> None:
    if not node.wanted or node.receive_bytes is None:
        # Who applies at the moment is to say when that has ended; a pause may be of a failing target, left alone now.
        node.resting, node.dispatched_at, node.next_at = False, None, None
    node.wanted, node.receive_bytes = True, limit


def is_received(task: Task, node: Node) -> bool:
    """Whether this owner of the node's stream is to do no more than receive."""
    return node.receive_bytes is not None and task.state == TaskState.SUSPENDED


def end(session: Session, task: Task, node: Node, why: str) -> None:
    """No job receives any more; the task stays suspended, and a resumption goes on with what is there."""
    node.wanted = False
    lifecycle.note(session, task.id, KIND, f"node {node.number}: {why}")


class Patience:
    """Failures of one owner while it only receives: no window runs and nothing fails the task; the pauses grow.

    Args:
        on: whether it only receives, as of the last beat.
        rng: jitter of pauses.
    """

    def __init__(self, on: bool, rng: Random) -> None:
        self.on = on
        self._rng = rng
        self._attempts: dict[str, int] = {}  # by side

    def failed(self, session: Session, task: Task, error: KeyferryError) -> float:
        """Count it; seconds to pause."""
        attempts = self._attempts[error.side] = self._attempts.get(error.side, 0) + 1
        if attempts == 1:
            lifecycle.note(session, task.id, "retry", f"{error.line()}: retried for as long as the task is suspended")
        return pause(attempts, self._rng)

    def healed(self, session: Session, task: Task, side: str) -> None:
        """That side works."""
        if attempts := self._attempts.pop(side, 0):
            lifecycle.note(session, task.id, "healed", f"{side}: works again after {attempts} failures")
