"""What an applier has done, for the job's other threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.moment import now_ms

if TYPE_CHECKING:
    from workers.source.ask import Source

IDLE_BYTES = 1024
"""So many bytes that change nothing (PING) may not be on the target yet: they are checkpointed a little later. A log of
our own has none of these: all of it counts."""


@dataclass(slots=True)
class Progress:
    """What the applier has done, read by the job's main thread."""

    committed: int | None = None  # offset in the target's checkpoint
    reached: int | None = None  # nothing in scope up to there is missing, or in doubt; the checkpoint may say so later
    latency_ms: float | None = None  # receipt to commit, of the last window
    oldest_ms: int | None = None  # receipt of what is not committed yet
    streaming: bool = False
    windows: int = 0  # committed since the job began
    held: int | None = None
    settled_at: int | None = None  # all holds on writes up to this offset are settled
    unextended: bool = False  # the cut-over is near: every expiry is the source's own, but for what was just written
    changed_offset: int | None = None  # behind the last command in scope that was committed
    changed_by: str | None = None  # its name, if the cut-over is near
    prunable: int = 0  # the log is of no more use to the target up to here

    @property
    def sure(self) -> int | None:
        """The same of what the checkpoint says."""
        return None if self.committed is None or self.reached is None else min(self.committed, self.reached)

    @property
    def delay_ms(self) -> float | None:
        """From the receipt of a write to its commit; None: nothing streams, or nothing has come yet."""
        if not self.streaming:
            return None
        if self.oldest_ms:
            return max(self.latency_ms or 0.0, float(now_ms() - self.oldest_ms))
        return self.latency_ms


def idle_bytes(source: Source) -> int:
    """So many that are not on the target yet may be nothing."""
    return 0 if source.compares else IDLE_BYTES
