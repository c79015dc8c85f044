"""How long windows are: the settings of a task, and of those that run on the same servers. One query for any number."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from sync_tasks.models import Task
from sync_tasks.retry_window import Lengths
from sync_tasks.sharing import Share, Shortest, shortest
from sync_tasks.states import RUNNING
from sync_tasks.store import rows
from sync_tasks.views import TaskView

CONNECTION_MIN = Task.spec["retry"]["connection_min"].as_integer()


def lengths(session: Session, tasks: Collection[Task]) -> dict[int, Lengths]:
    """Of these tasks, by id; for one that does not run, what its own settings say."""
    held = _shared(session, [task for task in tasks if task.state in RUNNING])
    return {
        task.id: Lengths(held.get(task.id) or Shortest(_share(task).connection_min), task.spec["retry"]["other_min"])
        for task in tasks
    }


def views(session: Session, tasks: Sequence[Task]) -> list[TaskView]:
    """Copies of these rows with the windows that hold for them."""
    held = _shared(session, [task for task in tasks if task.state in RUNNING])
    return [replace(rows.task_view(task), shared=held.get(task.id)) for task in tasks]


def view(session: Session, task: Task) -> TaskView:
    """The same of one."""
    return views(session, [task])[0]


def _shared(session: Session, tasks: Collection[Task]) -> dict[int, Shortest]:
    """Of tasks that run."""
    asked = [_share(task) for task in tasks]
    if not asked:
        return {}
    columns = (Task.id, Task.name, Task.source_server, Task.target_server, CONNECTION_MIN)
    theirs = or_(
        Task.source_server.in_({share.source for share in asked} - {None}),
        Task.target_server.in_({share.target for share in asked} - {None}),
    )
    found = session.execute(select(*columns).where(Task.state.in_(RUNNING), theirs))
    return shortest(asked, [Share(*row) for row in found])


def _share(task: Task) -> Share:
    return Share(task.id, task.name, task.source_server, task.target_server, task.spec["retry"]["connection_min"])
