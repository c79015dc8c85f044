"""What the parts of the store have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync_tasks import names
from sync_tasks.messages import Message
from sync_tasks.models import Node, Task
from sync_tasks.secrets import SecretBox
from sync_tasks.store import locks
from sync_tasks.store.database import Database

Sender = Callable[[Message], None]
"""Publishes a message."""


class StoreBase:
    """A database, and what its rows are written with.

    Args:
        database: or the SQLAlchemy URL of one, SQLite or PostgreSQL.
        box: seals the endpoints.
        sender: publishes messages after a commit; None leaves that to the scheduler.
        clock: wall time in Unix seconds; only pauses and deadlines use it.
        rng: jitter of pauses.
    """

    def __init__(
        self,
        database: Database | str,
        box: SecretBox,
        sender: Sender | None = None,
        *,
        clock: Callable[[], float] = time.time,
        rng: Random | None = None,
    ) -> None:
        self.database = Database(database) if isinstance(database, str) else database
        self._box = box
        self._sender = sender
        self._clock = clock
        self.account = ""  # whose tasks are shown and asked for by name; "": all
        self._rng = rng or Random()  # noqa: S311 - jitter, no secret

    @contextmanager
    def _task(self, task_id: int) -> Iterator[tuple[Session, Task]]:
        """A transaction that holds a task. Raises ControlError if there is none."""
        with self.database.write() as session:
            yield session, locks.task(session, task_id)

    @contextmanager
    def _run(self, task_id: int) -> Iterator[tuple[Session, Task]]:
        """A transaction that holds a task and the leases of its streams. Raises ControlError if there is none."""
        with self.database.write() as session:
            ids = session.scalars(select(Node.id).where(Node.task_id == task_id)).all()
            locks.leases(session, [names.node_lease(node_id) for node_id in ids])
            yield session, locks.task(session, task_id)
