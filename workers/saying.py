"""Events that can wait: a database that is away now is told later, and the work goes on."""

from __future__ import annotations

from collections.abc import Callable

from sync_tasks.errors import KeyferryError, Retry


def said(event: Callable[[str, str], None], kind: str, text: str) -> bool:
    """Whether the event was recorded. Raises what is final, such as Fenced."""
    try:
        event(kind, text)
    except KeyferryError as error:
        if error.retry is Retry.FATAL:
            raise
        return False
    return True
