"""Following without a load: the source says where its stream stands, and the task begins there.

The way back of a cut-over begins at a place of the stream that is known, if the source still has it from there on.

The source is asked for a snapshot as ever, and left as soon as it has said at which offset that begins: with its next
write it says in which database it is, and it keeps the stream from there on for who comes back.
"""

from __future__ import annotations

from pathlib import Path

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import CannotContinue, ConnectionLost, Side
from sync_tasks.point import Point
from sync_tasks.slots import written
from sync_tasks.topology import same, shards
from sync_tasks.views import ShardView
from workers.source.psync import Full, ReplicaLink
from workers.spool.tables import write_tables

NO_VERSION = 0
"""In place of the RDB version of a snapshot that nobody reads."""


def ask(endpoint: Endpoint, begins_at: str | None = None) -> tuple[Full, int]:
    """Where the stream begins, and its database there: where it stands, unless something else is wanted.

    Args:
        begins_at: a `Point`.
    Raises ConnectionLost, SourceError, CredentialsRefused; CannotContinue if the source has it no more from there on.
    """
    point = Point.parse(begins_at)
    link = ReplicaLink(endpoint)
    try:
        answer = link.psync(point.replid, point.offset) if point is not None else link.psync(None, 0)
    finally:
        link.close()
    if point is not None:
        if isinstance(answer, Full):
            raise _overtaken(point)
        return Full(point.replid, point.offset), point.db
    if not isinstance(answer, Full):
        raise ConnectionLost("the source continued a stream that was not asked for", side=Side.SOURCE)
    return answer, 0


def _overtaken(point: Point) -> CannotContinue:
    return CannotContinue(
        f"the source no longer has its stream from offset {point.offset} on, where the cut-over was",
        side=Side.SOURCE,
        hint='make a task with sync_types = ["full", "incremental"] that copies everything back; a larger'
        " repl-backlog-size there, or finish --reverse, keeps the way back open next time",
    )


def check_slots(endpoint: Endpoint, shard: ShardView) -> None:
    """See that a shard of the source serves what it did when the place was noted at which its stream is to begin.

    Slots that have moved since are in two streams, in parts: what came to them here, and there, and which of it first.

    Args:
        endpoint: of the shard.
        shard: as it was noted.
    Raises CannotContinue (`slots-moved`); what the cluster answers.
    """
    found = same(shard.members, (), shards(endpoint.now()))  # which of its slots are on their way each node alone says
    if found is not None and found.slots == shard.slots and not found.moving:
        return
    now = "none" if found is None else written(found.slots)
    moving = f", {len(found.moving)} of them on their way" if found is not None and found.moving else ""
    raise CannotContinue(
        f"slots of the source cluster have moved since the cut-over: the shard of {shard.address} served"
        f" {written(shard.slots)} then, and serves {now}{moving} now",
        side=Side.SOURCE,
        code="slots-moved",
        hint="move them back and resume the task while the backlog reaches, or make a task with"
        ' sync_types = ["full", "incremental"] that copies everything back',
    )


def empty(directory: Path) -> None:
    """What a load goes by, of nothing. Raises SpoolFull, ControlError."""
    directory.mkdir(parents=True, exist_ok=True)
    write_tables(directory, NO_VERSION, [], [])


def lost(offset: int | None) -> CannotContinue:
    """The target needs what only a load could bring."""
    where = "" if offset is None else f" behind offset {offset}"
    return CannotContinue(
        f"the source no longer has the stream{where} that the target needs, and this task does not load",
        side=Side.SOURCE,
        hint='raise repl-backlog-size on the source, then restart the task with sync_types = ["full", "incremental"]',
    )
