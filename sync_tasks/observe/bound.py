"""What this process works at, for every line that it logs.

A process of a worker's pool has one job at a time, but several threads at it, which a context variable would not reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_job: dict[str, Any] | None = None


def now() -> Mapping[str, Any]:
    """What is bound at the moment."""
    return _job or {}


def note(**values: Any) -> None:
    """Bind more, or other values, until the job ends. From any thread; None, and without a job all, is left out."""
    global _job
    if _job is not None:
        _job = {**_job, **{name: value for name, value in values.items() if value is not None}}


@contextmanager
def job(**values: Any) -> Iterator[None]:
    """Within the block these are bound, and what is noted in it."""
    global _job
    _job = values
    try:
        yield
    finally:
        _job = None
