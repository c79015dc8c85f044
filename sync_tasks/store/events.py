"""Events as they leave the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sync_tasks.models import Event


@dataclass(frozen=True, slots=True)
class EventView:
    """What happened to a task, for people; holds no secret."""

    id: int
    task_id: int
    at: datetime
    kind: str
    text: str


def event_view(row: Event) -> EventView:
    """A copy of an event's row."""
    return EventView(id=row.id, task_id=row.task_id, at=row.at, kind=row.kind, text=row.text)
