"""Whether a stream job's two sides are in sync: whether the target has all that the source had written when asked."""

from __future__ import annotations

import time
from collections.abc import Callable

from sync_tasks.errors import KeyferryError
from workers.applied import Progress
from workers.sharding import Slots
from workers.source.ask import Source

ASK_S = 0.4
STEP_S = 0.01
IDLE_BYTES = 1024
"""So many bytes that change nothing (PING) may not be on the target yet: they are checkpointed a little later. A log of
our own has none of these: all of it counts."""


class InSync:
    """Of one job.

    Args:
        source: ordinary questions to it.
        slots: of the same job.

    sample: the source's offset when it was last asked; None: it did not say.
    """

    def __init__(self, source: Source, slots: Slots) -> None:
        self._source, self._slots = source, slots
        self._idle = 0 if source.compares else IDLE_BYTES
        self.sample: int | None = None
        self._was = False  # when it was last asked

    def forget(self) -> None:
        """Nothing is known of it any more."""
        self.sample, self._was = None, False

    def ask(self, applied: Callable[[], Progress], received: Callable[[], int | None], *, connected: bool) -> None:
        """In sync: the target has all that the source had written when asked, and nothing of that is held.

        Args:
            applied: how far the target is.
            received: the end of the log.
            connected: the source is followed.
        """
        progress = applied()
        self._was &= progress.streaming and connected
        try:
            offset = self._source.offset()
            self._slots.look(progress.committed if progress.streaming else None)
        except KeyferryError:
            self.forget()
            self._slots.unsure()
            return
        self.sample = offset
        until = time.monotonic() + ASK_S
        while progress.streaming and self._slots.steady and time.monotonic() < until:
            committed, settled = progress.committed, progress.settled_at
            if committed is not None and committed >= offset and settled is not None and settled >= offset:
                self._was = True
                return
            time.sleep(STEP_S)
        # Bytes that change nothing (PING) are committed a little later: one miss says nothing, if all has come.
        committed, settled = progress.committed or 0, progress.settled_at
        near = offset - committed <= self._idle
        done = near and settled is not None and settled >= min(offset, committed)
        self._was = self._was and done and (received() or 0) >= offset and self._slots.steady

    def holds(self, progress: Progress, *, connected: bool) -> bool:
        """What the last question found, if it is still so: a target may have fallen back since, a link be cut."""
        if not progress.streaming or not connected or self.sample is None or progress.committed is None:
            return False
        return self._was and self.sample - progress.committed <= self._idle
