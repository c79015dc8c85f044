"""What goes on a queue: the name of a Celery task and an id. The rest is for people who watch the queues."""

from __future__ import annotations

from dataclasses import dataclass

from sync_tasks import names


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Args:
        name: of the Celery task.
        id: of the row where all else stands.
        spool: whose workers may take it: those of the spool with this id; None: any.
        says: what Flower shows as its arguments.
    """

    name: str
    id: int
    spool: str | None = None
    says: tuple[str, ...] = ()

    @property
    def queue(self) -> str:
        """The queue it goes to."""
        return names.queue(self.name, self.spool)


def follow(node_id: int, task: str, number: int, spool: str | None) -> Message:
    """Follow a source node."""
    return Message(names.FOLLOW, node_id, spool, (task, f"node {number}"))


def load(
    chunk_id: int, task: str, number: int, db: int, shard: int, seq: int, spool: str | None, total: int | None = None
) -> Message:
    """Load a chunk; `total` chunks are known once the whole snapshot has arrived."""
    which = f"chunk {seq + 1}" + (f" of {total}" if total else "")
    return Message(names.LOAD, chunk_id, spool, (task, f"node {number}", f"db {db}", f"shard {shard}", which))


def sweep(op_id: int, task: str, spool: str) -> Message:
    """Remove from a spool what is over since an operation."""
    return Message(names.SWEEP, op_id, spool, (task,))


def op(op_id: int, task: str, kind: str) -> Message:
    """Carry out an operation."""
    return Message(names.OPS, op_id, None, (task, kind))


def part(op_id: int, task: str, says: str) -> Message:
    """Compare a part of a task's two sides."""
    return Message(names.PART, op_id, None, (task, says))
