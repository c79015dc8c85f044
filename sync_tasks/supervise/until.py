"""What the foreground command waits for. A leaf: the options are read before anything heavy is imported."""

from __future__ import annotations

from enum import StrEnum


class Until(StrEnum):
    """See SPEC 7."""

    FULL = "full"
    IN_SYNC = "in-sync"
    NEVER = "never"
