"""What an applier has done, for the job's other threads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """What the applier has done, read by the job's main thread."""

    committed: int | None = None  # offset in the target's checkpoint
    latency_ms: float | None = None  # receipt to commit, of the last window
    oldest_ms: int | None = None  # receipt of what is not committed yet
    streaming: bool = False
    held: int | None = None
    settled_at: int | None = None  # all holds on writes up to this offset are settled
    prunable: int = 0  # the log is of no more use to the target up to here
