"""Runs that are over: what a spool still holds of them may go."""

from __future__ import annotations

import logging
from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync_tasks import messages
from sync_tasks.models import Chunk, EndedRun, Node, Task
from sync_tasks.store.base import StoreBase

log = logging.getLogger(__name__)


class Ended(StoreBase):
    """Tells spools, and answers them."""

    def ended(self, uids: Collection[str]) -> set[str]:
        """Those of these runs that are over for good. What the database does not know is not over."""
        with self.database.read() as session:
            return set(session.scalars(select(EndedRun.uid).where(EndedRun.uid.in_(uids))))

    def tell_spools(self, op_id: int, task: str, spools: Collection[str]) -> None:
        """Have each swept by a worker that sees it. A message that is lost costs time alone: see `workers.tasks`."""
        if self._sender is None:
            return
        for spool in spools:
            try:
                self._sender(messages.sweep(op_id, task, spool))
            except Exception as error:  # noqa: BLE001 - any transport, any failure of it
                log.warning("spool %s could not be told: %s", spool, type(error).__name__)


def note(session: Session, task: Task) -> list[str]:
    """The task's present run is over; the spools of hosts that held something of it."""
    session.merge(EndedRun(uid=task.uid))
    held = select(Chunk.spool).where(Chunk.task_id == task.id).union(select(Node.spool).where(Node.task_id == task.id))
    return [spool for spool in session.scalars(held) if spool is not None]
