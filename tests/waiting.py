"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(true: Callable[[], Any], what: str = "", timeout: float = 90.0, every: float = 0.05) -> Any:
    """What `true` returns once that is true; fails, saying `what`, after `timeout` seconds; asked `every` so many."""
    deadline = time.monotonic() + timeout
    while not (found := true()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(every)
    return found


def seconds_until(true: Callable[[], Any], what: str = "", timeout: float = 90.0, every: float = 0.05) -> float:
    """How long it took."""
    began = time.monotonic()
    until(true, what, timeout, every)
    return time.monotonic() - began
