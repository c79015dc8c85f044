"""Expiries under way: every time that a command or payload carries, and the hold put on it.

While the task loads or is behind, a time is written as the source's plus HOLD, so that the target never expires a key
by itself: the source's DEL does. The hold is a bit far above any real time, so the target itself is the index of what
must still be settled, and RENAME, COPY, SWAPDB and restarts carry it along. A time that came as a relative one (sources
before 7.0) is only roughly known: it carries INEXACT and is settled by asking the source.
"""

from __future__ import annotations

HOLD = 1 << 60
INEXACT = 1 << 61
FIELD_HOLD = 1 << 45
REAL = 1 << 48
"""Times from here on (year 10889) never come: they stay as they are, and carry no hold."""
REAL_FIELD = 1 << 44


def held(time_ms: int) -> bool:
    """Whether a time read from the target carries a hold."""
    return HOLD <= time_ms < HOLD + REAL or INEXACT <= time_ms < INEXACT + REAL


def held_field(time_ms: int) -> bool:
    return FIELD_HOLD <= time_ms < FIELD_HOLD + REAL_FIELD


def source_time(time_ms: int) -> tuple[int, bool]:
    """The source's time below a hold, and whether it is exact."""
    if time_ms >= INEXACT:
        return time_ms - INEXACT, False
    return time_ms - HOLD, True


def hold(time_ms: int, exact: bool = True) -> int:
    """A source time with its hold. Times so far off that they never come stay as they are."""
    if time_ms >= REAL:
        return time_ms
    return time_ms + (HOLD if exact else INEXACT)


def hold_field(time_ms: int) -> int:
    return time_ms + FIELD_HOLD if time_ms < REAL_FIELD else time_ms
