"""How long windows are: the settings of a task, and of those that run on the same servers. One query for any number."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from sync_tasks.models import Task
from sync_tasks.retry_window import Lengths
from sync_tasks.sharing import Share, Shortest, shortest
from sync_tasks.spec import RetrySpec
from sync_tasks.states import RUNNING
from sync_tasks.store import rows
from sync_tasks.views import TaskView

_USUAL = RetrySpec()
CONNECTION_MIN = func.coalesce(Task.spec["retry"]["connection_min"].as_integer(), _USUAL.connection_min)
OTHER_MIN = func.coalesce(Task.spec["retry"]["other_min"].as_integer(), _USUAL.other_min)
SHARE = (Task.id, Task.name, Task.source_server, Task.target_server, CONNECTION_MIN)


def lengths(session: Session, task_ids: Collection[int]) -> dict[int, Lengths]:
    """Of these tasks, by id; for one that does not run, what its own settings say. Two queries."""
    found = session.execute(select(*SHARE, Task.state, OTHER_MIN).where(Task.id.in_(task_ids))).all()
    held = _shared(session, [Share(*row[:5]) for row in found if row.state in RUNNING])
    return {row.id: Lengths(held.get(row.id) or Shortest(row[4]), row[6]) for row in found}


def views(session: Session, tasks: Sequence[Task]) -> list[TaskView]:
    """Copies of these rows with the windows that hold for them."""
    found = {task.id: rows.task_view(task) for task in tasks}
    shares = [
        Share(task.id, task.name, task.source_server, task.target_server, found[task.id].spec.retry.connection_min)
        for task in tasks
        if task.state in RUNNING
    ]
    held = _shared(session, shares)
    return [replace(view, shared=held.get(view.id)) for view in found.values()]


def view(session: Session, task: Task) -> TaskView:
    """The same of one."""
    return views(session, [task])[0]


def _shared(session: Session, asked: Collection[Share]) -> dict[int, Shortest]:
    """Of tasks that run."""
    if not asked:
        return {}
    theirs = or_(
        Task.source_server.in_({share.source for share in asked} - {None}),
        Task.target_server.in_({share.target for share in asked} - {None}),
    )
    found = session.execute(select(*SHARE).where(Task.state.in_(RUNNING), theirs))
    return shortest(asked, [Share(*row) for row in found])
