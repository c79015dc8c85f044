"""Tasks: their addresses and settings."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync_tasks import lifecycle, names, reading
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, Side, UsageError
from sync_tasks.models import Grant, Lease, Node, Task
from sync_tasks.places import Named
from sync_tasks.spec import TaskSpec, mapping
from sync_tasks.states import TaskState
from sync_tasks.store import extents, locks, rows, sharing
from sync_tasks.store.base import StoreBase
from sync_tasks.views import TaskView

LONGEST_NAME = 300
"""Characters of a task's name; PostgreSQL counts them. Two addresses may be longer."""


class Tasks(StoreBase):
    """The store's tasks."""

    def create_task(
        self,
        spec: TaskSpec,
        source: Endpoint,
        target: Endpoint,
        account: str = "",
        instances: Sequence[Named | None] = (None, None),
    ) -> TaskView:
        """A new task with one node, not started. Raises UsageError if URLs contradict `databases`, or `reader`.

        Args:
            account: whose it is; "": the installation's own.
            instances: those that the ends are. Of another account they come with a grant.
        """
        mine, theirs = instances
        reading.check(spec, source)
        mapping(spec.databases, source.db, target.db)
        with self.database.write() as session:
            task = Task(
                uid=secrets.token_hex(8),
                name=spec.name or f"{source.address()} to {target.address()}"[:LONGEST_NAME],
                state=TaskState.NOT_STARTED,
                spec=spec.model_dump(mode="json"),
                finishing=not spec.follows,
                account=account,
                source_instance=mine and mine.name,
                source_owner=mine and (mine.account or account),
                target_instance=theirs and theirs.name,
                target_owner=theirs and (theirs.account or account),
            )
            self._seal(task, source, target)
            session.add(task)
            session.flush()
            node = Node(task_id=task.id, number=0)
            session.add(node)
            session.flush()
            session.add(Lease(name=names.node_lease(node.id)))
            for side, one in ((Side.SOURCE, mine), (Side.TARGET, theirs)):
                if one is not None and one.account is not None and one.role is not None:
                    session.add(
                        Grant(task_id=task.id, side=side, owner=one.account, role=one.role, instance=one.name, until=0)
                    )
            lifecycle.note(session, task.id, "created", f"{task.source_safe} to {task.target_safe}")
            return rows.task_view(task)

    def note(self, task_id: int, kind: str, text: str) -> None:
        """Record an event of a task."""
        with self._task(task_id) as (session, task):
            lifecycle.note(session, task.id, kind, text)

    def tasks(self) -> list[TaskView]:
        """All tasks, or those of the store's account, oldest first."""
        mine = [Task.account == self.account] if self.account else []
        with self.database.read() as session:
            return sharing.views(session, session.scalars(select(Task).where(*mine).order_by(Task.id)).all())

    def task(self, task_id: int) -> TaskView:
        """One task. Raises ControlError if there is none."""
        with self.database.read() as session:
            return sharing.view(session, locks.found(session.get(Task, task_id), task_id))

    def only_task(self) -> TaskView | None:
        """The task of a foreground state directory, if it has one. Raises ControlError if it has several."""
        found = self.tasks()
        if len(found) > 1:
            raise ControlError(
                f"the state directory holds {len(found)} tasks",
                hint="`keyferry sync` needs a directory of its own: give another --state",
                code="many-tasks",
            )
        return found[0] if found else None

    def set_endpoints(self, task_id: int, source: Endpoint, target: Endpoint) -> None:
        """New addresses or credentials of the same servers, sealed anew."""
        with self._task(task_id) as (session, task):
            old = rows.task_view(task).databases
            if old != mapping(rows.spec_of(task).databases, source.db, target.db) and extents.begun(session, task):
                raise UsageError(
                    "the databases to copy cannot change with the addresses once copying has begun",
                    hint="use the same databases as before, or another --state directory",
                    code="databases",
                )
            self._seal(task, source, target)

    def endpoints(self, task_id: int) -> tuple[Endpoint, Endpoint]:
        """Source and target, with credentials. Raises ControlError if they were sealed with another key."""
        with self.database.read() as session:
            task = locks.found(session.get(Task, task_id), task_id)
            source, target = task.source, task.target
        return (
            Endpoint.stored(self._box.open(source), Side.SOURCE),
            Endpoint.stored(self._box.open(target), Side.TARGET),
        )

    def update_spec(self, task_id: int, spec: TaskSpec) -> None:
        """New settings. Raises UsageError if databases change once data has been copied."""
        with self._task(task_id) as (session, task):
            extents.refuse(session, task, spec)
            set_spec(session, task, spec)

    def _seal(self, task: Task, source: Endpoint, target: Endpoint) -> None:
        task.source = self._box.seal(source.url())
        task.target = self._box.seal(target.url())
        task.source_safe = source.safe()
        task.target_safe = target.safe()
        task.source_db = source.db
        task.target_db = target.db
        task.source_server = source.identity()
        task.target_server = target.identity()


def set_spec(session: Session, task: Task, spec: TaskSpec) -> None:
    """Give a task new settings. Raises UsageError if they contradict its URLs."""
    reading.check(spec, Endpoint.stored(task.source_safe.partition("?")[0], Side.SOURCE))
    if task.lanes and spec.transform.active != rows.spec_of(task).transform.active and extents.begun(session, task):
        raise UsageError(
            "a transform is neither given to nor taken from a task whose target is a cluster, once copying has begun",
            hint="restart the task with the new settings and an empty target",
            code="transform",
        )
    extents.keep(session, task, spec)
    if spec.reader != rows.spec_of(task).reader and extents.begun(session, task):
        raise UsageError(
            "reader cannot change once copying has begun",
            hint="restart the task with another, or make another task",
            code="reader",
        )
    if spec.scan_changes != rows.spec_of(task).scan_changes and extents.begun(session, task):
        raise UsageError(
            "scan_changes cannot change once copying has begun",
            hint="restart the task with another, or make another task",
            code="reader",
        )
    if spec.sync_types != rows.spec_of(task).sync_types:
        if extents.begun(session, task):
            raise UsageError(
                "sync_types cannot change once copying has begun",
                hint="restart the task with others, or make another",
                code="sync-types",
            )
        task.finishing = not spec.follows
    task.spec = spec.model_dump(mode="json")
    if spec.name:
        task.name = spec.name
