"""Whether a stream job's two sides are in sync: whether the target has all that the source had written when asked."""

from __future__ import annotations

import time
from collections.abc import Callable

from sync_tasks.errors import KeyferryError
from workers.applied import Progress
from workers.moment import now_ms
from workers.sharding import Slots
from workers.source.ask import Source

ASK_S = 0.4
STEP_S = 0.01
NEAR_BYTES = 1024
LATE_MS = 2000
"""With a target that was in sync, so many bytes may be on their way when it is asked again, and no longer than that. A
log of our own is awaited to its end."""


class InSync:
    """Of one job.

    Args:
        source: ordinary questions to it.
        slots: of the same job.

    sample: the source's offset when it was last asked; None: it did not say.
    """

    def __init__(self, source: Source, slots: Slots) -> None:
        self._source, self._slots = source, slots
        self._near = 0 if source.compares else NEAR_BYTES
        self.sample: int | None = None
        self._was = False  # when it was last asked
        self._missed: tuple[int, float] | None = None  # an offset that the target has yet to reach, and since when

    def forget(self) -> None:
        """Nothing is known of it any more."""
        self.sample, self._was, self._missed = None, False, None

    def ask(self, applied: Callable[[], Progress], received: Callable[[], int | None], *, connected: bool) -> None:
        """In sync: the target has all that the source had written when asked, and nothing of that is held.

        Args:
            applied: how far the target is by now; of several parts of it, what they come to.
            received: the end of the log.
            connected: the source is followed.
        """
        progress = applied()
        self._was &= progress.streaming and connected
        try:
            offset = self._source.offset()
            self._slots.look(progress.sure if progress.streaming and connected else None)
        except KeyferryError:
            self.forget()
            self._slots.unsure()
            return
        self.sample = offset
        until = time.monotonic() + ASK_S
        while (progress := applied()).streaming and self._slots.steady and time.monotonic() < until:
            reached, settled = progress.reached, progress.settled_at
            if reached is not None and reached >= offset and settled is not None and settled >= offset:
                self._was, self._missed = connected, None
                return
            time.sleep(STEP_S)
        # The last bytes may just have come, and with writers that go on there always are some.
        reached, settled = progress.reached or 0, progress.settled_at
        near = offset - reached <= self._near and now_ms() - (progress.oldest_ms or now_ms()) < LATE_MS
        near = near and not self._is_late(offset, reached)
        done = near and settled is not None and settled >= min(offset, reached)
        self._was = self._was and done and (received() or 0) >= offset and self._slots.steady

    def _is_late(self, offset: int, reached: int) -> bool:
        """Whether the target has not reached for too long what the source had: it may not have been read of the log
        yet, by a stream that is throttled, or waits for the target.

        Args:
            offset: of the source, which was not reached just now.
            reached: by the target.
        """
        now = time.monotonic()
        if self._missed is None or reached >= self._missed[0]:
            self._missed = offset, now
        return now - self._missed[1] >= LATE_MS / 1000

    def holds(self, progress: Progress, *, connected: bool) -> bool:
        """What the last question found, if it is still so: a target may have fallen back since, a link be cut."""
        if not progress.streaming or not connected or self.sample is None or progress.reached is None:
            return False
        return self._was and self.sample - progress.reached <= self._near
