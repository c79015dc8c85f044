"""Servers that are known by a name, with their credentials; tasks made of one follow when those change."""

from __future__ import annotations

import re
from dataclasses import replace

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.orm import Session

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, Side, UsageError
from sync_tasks.models import Instance, Task
from sync_tasks.nearest import nearest
from sync_tasks.states import ENDED, TaskState
from sync_tasks.store import accounts
from sync_tasks.store.base import StoreBase
from sync_tasks.views import InstanceView

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Instances(StoreBase):
    """Registered servers."""

    def put_instance(self, account: str, name: str, endpoint: Endpoint) -> InstanceView:
        """Register a server of an account under a name; one that has the name gets other credentials, and its tasks.

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
            if account:
                accounts.found(session, account)
            row = session.get(Instance, (account, name), with_for_update=True) or Instance(account=account, name=name)
            tasks = session.scalars(_users(account, name)).all()
            if tasks and row.server != endpoint.identity():
                raise ControlError(
                    f"{name} is used by {tasks[0].name}: it cannot become another server",
                    hint="give the same address with other credentials; or end and release its tasks first",
                    code="in-use",
                )
            row.url, row.safe, row.server = self._box.seal(endpoint.url()), endpoint.safe(), endpoint.identity()
            session.add(row)
            for task in tasks:
                self._follow(task, row, endpoint)
            session.flush()
            return _view(session, row)

    def instances(self, account: str) -> list[InstanceView]:
        """All of an account, by name."""
        query = select(Instance).where(Instance.account == account).order_by(Instance.name)
        with self.database.read() as session:
            return [_view(session, row) for row in session.scalars(query)]

    def instance(self, account: str, name: str, side: Side, db: int | None = None) -> Endpoint:
        """One of them, as an end of a task, with its credentials. Raises ControlError if there is none.

        Nobody is asked whether it may be used: see `Grants.may_use`.
        """
        with self.database.read() as session:
            url = _found(session, account, name).url
        return replace(Endpoint.stored(self._box.open(url), side), db=db)

    def remove_instance(self, account: str, name: str) -> None:
        """Forget one. Raises ControlError if there is none, or a task uses it."""
        with self.database.write() as session:
            row = _found(session, account, name)
            if users := [task.name for task in session.scalars(_users(account, name))]:
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

    def _follow(self, task: Task, row: Instance, endpoint: Endpoint) -> None:
        """A task made of an instance has its credentials; a stream takes them up when it connects in its next shift."""
        mine = (row.account, row.name)
        if (task.source_owner, task.source_instance) == mine:
            source = replace(endpoint, side=Side.SOURCE, db=task.source_db)
            task.source, task.source_safe = self._box.seal(source.url()), source.safe()
        if (task.target_owner, task.target_instance) == mine:
            target = replace(endpoint, side=Side.TARGET, db=task.target_db)
            task.target, task.target_safe = self._box.seal(target.url()), target.safe()


def _found(session: Session, account: str, name: str) -> Instance:
    row = session.get(Instance, (account, name))
    if row is None:
        known = session.scalars(select(Instance.name).where(Instance.account == account)).all()
        hint = nearest(name, known) if known else "register one: keyferry instance add NAME URL"
        whose = f"account {account} has no instance" if account else "there is no instance"
        raise ControlError(f"{whose} {name}", hint=hint, code="no-instance")
    return row


def _users(account: str, name: str) -> Select[Task]:
    mine = or_(
        and_(Task.source_owner == account, Task.source_instance == name),
        and_(Task.target_owner == account, Task.target_instance == name),
    )
    return select(Task).where(mine, Task.state.not_in(ENDED)).order_by(Task.id)


def _view(session: Session, row: Instance) -> InstanceView:
    count = session.scalar(select(func.count()).select_from(_users(row.account, row.name).subquery())) or 0
    return InstanceView(row.account, row.name, row.safe, row.created_at, count)
