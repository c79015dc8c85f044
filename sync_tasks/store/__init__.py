"""The database of the control plane behind one door."""

from __future__ import annotations

from sync_tasks.store.base import Sender
from sync_tasks.store.migrate import migrate
from sync_tasks.store.store import Store

__all__ = ["Sender", "Store", "migrate"]
