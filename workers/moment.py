"""This process' clock: the wall clock as it was at the first import, carried on by the monotonic one."""

from __future__ import annotations

import time

_START = time.time_ns() - time.monotonic_ns()


def now_ms() -> int:
    """Milliseconds since the epoch. A step of the wall clock does not move it: a time in the past deletes a key."""
    return (_START + time.monotonic_ns()) // 1_000_000
