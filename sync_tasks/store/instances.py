"""Servers that are known by a name, with their credentials; tasks made of one follow when those change."""

from __future__ import annotations

import re
from dataclasses import replace

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, Side, UsageError
from sync_tasks.models import Instance, Task
from sync_tasks.nearest import nearest
from sync_tasks.states import ENDED, TaskState
from sync_tasks.store.base import StoreBase
from sync_tasks.views import InstanceView

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Instances(StoreBase):
    """Registered servers."""

    def put_instance(self, name: str, endpoint: Endpoint) -> InstanceView:
        """Register a server under a name; one that has the name gets another address, for its tasks too.

        Raises:
            UsageError: it is no name, or the URL has a database: tasks choose that.
        """
        if not NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} is no name of an instance", hint="use letters, digits, dots and hyphens", code="name"
            )
        if endpoint.db is not None:
            raise UsageError("an instance has no database", hint="leave /db out: tasks choose it", code="databases")
        with self.database.write() as session:
            row = session.get(Instance, name, with_for_update=True) or Instance(name=name)
            tasks = session.scalars(_users(name)).all()
            if tasks and row.server != endpoint.identity():
                raise ControlError(
                    f"{name} is used by {tasks[0].name}: it cannot become another server",
                    hint="give the same address with other credentials; or end and release its tasks first",
                    code="in-use",
                )
            row.url, row.safe, row.server = self._box.seal(endpoint.url()), endpoint.safe(), endpoint.identity()
            session.add(row)
            for task in tasks:
                self._follow(task, name, endpoint)
            session.flush()
            return _view(session, row)

    def instances(self) -> list[InstanceView]:
        """All of them, by name."""
        with self.database.read() as session:
            return [_view(session, row) for row in session.scalars(select(Instance).order_by(Instance.name))]

    def instance(self, name: str, side: Side, db: int | None = None) -> Endpoint:
        """One of them, as an end of a task, with its credentials. Raises ControlError if there is none."""
        with self.database.read() as session:
            url = _found(session, name).url
        return replace(Endpoint.stored(self._box.open(url), side), db=db)

    def remove_instance(self, name: str) -> None:
        """Forget one. Raises ControlError if there is none, or a task uses it."""
        with self.database.write() as session:
            row = _found(session, name)
            if users := [task.name for task in session.scalars(_users(name))]:
                raise ControlError(
                    f"{name} is used by {', '.join(users[:5])}", hint="end and release those tasks first", code="in-use"
                )
            session.delete(row)

    def reseal(self) -> int:
        """Seal everything anew, with the first key. How many secrets there are.

        Raises:
            ControlError: one of them is opened by none of the keys; nothing is changed then.
        """
        count = 0
        with self.database.write() as session:
            for task in session.scalars(select(Task).where(Task.state != TaskState.RELEASED).with_for_update()):
                task.source, task.target = self._box.again(task.source), self._box.again(task.target)
                count += 2
            for row in session.scalars(select(Instance).with_for_update()):
                row.url = self._box.again(row.url)
                count += 1
        return count

    def _follow(self, task: Task, name: str, endpoint: Endpoint) -> None:
        """A task made of an instance has its credentials; a stream takes them up when it connects in its next shift."""
        if task.source_instance == name:
            source = replace(endpoint, side=Side.SOURCE, db=task.source_db)
            task.source, task.source_safe = self._box.seal(source.url()), source.safe()
        if task.target_instance == name:
            target = replace(endpoint, side=Side.TARGET, db=task.target_db)
            task.target, task.target_safe = self._box.seal(target.url()), target.safe()


def _found(session: Session, name: str) -> Instance:
    row = session.get(Instance, name)
    if row is None:
        known = session.scalars(select(Instance.name)).all()
        hint = nearest(name, known) if known else "register one: keyferry instance add NAME URL"
        raise ControlError(f"there is no instance {name}", hint=hint, code="no-instance")
    return row


def _users(name: str) -> Select[Task]:
    mine = or_(Task.source_instance == name, Task.target_instance == name)
    return select(Task).where(mine, Task.state.not_in(ENDED)).order_by(Task.id)


def _view(session: Session, row: Instance) -> InstanceView:
    count = session.scalar(select(func.count()).select_from(_users(row.name).subquery())) or 0
    return InstanceView(row.name, row.safe, row.created_at, count)
