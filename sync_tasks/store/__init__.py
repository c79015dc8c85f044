"""The database of the control plane behind one door."""

from __future__ import annotations

from sync_tasks.store.base import Sender
from sync_tasks.store.database import Database
from sync_tasks.store.migrate import migrate
from sync_tasks.store.rehearsal import rehearse
from sync_tasks.store.store import Store

__all__ = ["Database", "Sender", "Store", "migrate", "rehearse"]
