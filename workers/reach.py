"""Waiting for the stream on disk to come to where the source has said something."""

from __future__ import annotations

import time
from collections.abc import Callable

from sync_tasks.errors import ConnectionLost, Side
from workers.source.ask import Position
from workers.spool.log import Log
from workers.target.claim import Checkpoint

PATIENCE_S = 30.0
"""If for so long the stream comes no nearer to there, the source is asked again."""
STEP_S = 0.05


def nowhere() -> ConnectionLost:
    what = "the stream does not come to where the source has answered; it is asked again"
    return ConnectionLost(what, side=Side.SOURCE)


def reach(log: Log, at: Position, pause: Callable[[float], None]) -> None:
    """Return once the log covers the position.

    Args:
        pause: sleeps so many seconds; raises when the job is to stop.
    Raises ConnectionLost if it never will: the source has gone on under another id since, say.
    """
    last, by = log.end, time.monotonic() + PATIENCE_S
    while True:
        end = log.end
        if log.has(at.replid, at.offset):
            return
        now = time.monotonic()
        if end != last:
            last, by = end, now + PATIENCE_S
        if now > by or (end or 0) > at.offset:
            raise nowhere()
        pause(STEP_S)


def await_log(log: Log, found: Checkpoint, pause: Callable[[float], None]) -> None:
    """The log may have lost its end with the power; the receiver then fetches it again."""
    while log.anew:
        pause(0.1)  # ends this life once the full sync in place has begun
    while not log.covers(found.replid, found.offset):
        pause(0.1)  # first: a full sync in place may have begun the log anew
        log.want(found.replid, found.offset, found.db)


def await_seen(log: Log, found: Checkpoint, pause: Callable[[float], None]) -> None:
    """What lies between `seen` and the checkpoint is needed, too; the log covered the checkpoint a moment ago.

    It is asked for under the id by which the log goes on: the source may have another one since, and that it has
    the stream up to the checkpoint, it says of the checkpoint alone.
    """
    while (replid := log.replid_at(found.offset)) is None:
        pause(0.1)  # a full sync in place has begun the log anew
        await_log(log, found, pause)
    while (log.start or 0) > found.seen or not log.covers(replid, found.offset):
        if (log.start or 0) <= found.seen and (log.end or 0) > found.offset:
            raise nowhere()
        pause(0.1)
        log.want(replid, found.seen, found.seen_db)
