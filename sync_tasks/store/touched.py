"""What was found of the keys that streams write, shortly after they did."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync_tasks.models import Node, Task, Touched
from sync_tasks.store.base import StoreBase


class TouchedHandle:
    """Of one owner's hold on a node."""

    node_id: int

    if TYPE_CHECKING:

        def _write(self) -> AbstractContextManager[tuple[Session, Node, Task]]: ...

    def found_before(self) -> dict[str, Any] | None:
        """What earlier owners had found; None: nothing was looked at."""
        with self._write() as (session, _node, _task):
            row = session.get(Touched, self.node_id)
            return None if row is None else dict(row.found)

    def touched(self, found: dict[str, Any]) -> None:
        """What was found so far."""
        with self._write() as (session, _node, _task):
            session.merge(Touched(node_id=self.node_id, found=found))


class TouchedReading(StoreBase):
    """For those who watch."""

    def touched(self, task_id: int) -> list[dict[str, Any]]:
        """What was found, of each node of which anything was looked at."""
        query = select(Touched.found).join(Node, Node.id == Touched.node_id).where(Node.task_id == task_id)
        with self.database.read() as session:
            return [dict(found) for found in session.scalars(query.order_by(Node.number))]
