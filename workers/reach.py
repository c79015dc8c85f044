"""Waiting for the stream on disk to come to where the source has said something."""

from __future__ import annotations

import time
from collections.abc import Callable

from sync_tasks.errors import ConnectionLost, Side
from workers.source.ask import Position
from workers.spool.log import Log

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
