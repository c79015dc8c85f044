"""The database of the control plane behind one door."""

from __future__ import annotations

from sync_tasks.store.events import EventView
from sync_tasks.store.migrate import migrate
from sync_tasks.store.store import Sender, Store

__all__ = ["EventView", "Sender", "Store", "migrate"]
