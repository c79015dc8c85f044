"""Forgetting: events that nobody will read."""

from __future__ import annotations

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from sync_tasks.models import Event

KEEP = 10_000
"""Events kept, over all tasks."""

EVERY_S = 600.0


def events(session: Session, keep: int = KEEP) -> None:
    """Delete all but the youngest `keep` events."""
    newest = select(func.coalesce(func.max(Event.id), 0)).scalar_subquery()
    session.execute(delete(Event).where(Event.id <= newest - keep))
