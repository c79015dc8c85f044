"""What people are told: what a job does, events that can wait, and events that may come too often."""

from __future__ import annotations

import time
from collections.abc import Callable

from sync_tasks.errors import KeyferryError, Retry
from workers.applied import Progress
from workers.ports import StreamPort

MINUTE_S = 60.0


def said(event: Callable[[str, str], None], kind: str, text: str) -> bool:
    """Whether the event was recorded: a database that is away now is told later, and the work goes on.

    Raises what is final, such as Fenced.
    """
    try:
        event(kind, text)
    except KeyferryError as error:
        if error.retry is Retry.FATAL:
            raise
        return False
    return True


def in_words(port: StreamPort, progress: Progress, *, in_sync: bool) -> str:
    """What a stream job does."""
    if not progress.streaming:
        node = port.node()
        return f"snapshot {node.gen}: {node.keys_done} of {node.keys_total or 'unknown'} keys loaded"
    late = "" if progress.delay_ms is None else f", {progress.delay_ms:.0f} ms behind"
    return f"offset {progress.committed}{late}{', in sync' if in_sync else ''}"


class Sparing:
    """Tells at most so many events of a kind in a minute, and then how many there were.

    Args:
        event: records an event: kind and text.
    """

    def __init__(self, event: Callable[[str, str], None], most: int = 20) -> None:
        self._event, self._most = event, most
        self._told: dict[str, tuple[float, int]] = {}  # of each kind, when the minute began, and how many since

    def __call__(self, kind: str, text: str) -> None:
        """One event. Raises what `event` raises."""
        now = time.monotonic()
        begun, count = self._told.get(kind, (now, 0))
        if now - begun > MINUTE_S:
            if count > self._most:
                text = f"{text} (and {count - self._most} more like it before)"
            begun, count = now, 0
        self._told[kind] = begun, count + 1
        if count < self._most:
            self._event(kind, text)
