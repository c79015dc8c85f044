"""All tasks at one look, in six queries however many there are."""

from __future__ import annotations

import time
from collections import defaultdict

from sqlalchemy import select

from sync_tasks.models import Node, RetryWindow, Task
from sync_tasks.store import rows, sharing, windows
from sync_tasks.store.database import Database
from sync_tasks.views import NodeView, RetryView, TaskView


def overview(database: Database) -> list[tuple[TaskView, list[NodeView], list[RetryView]]]:
    """Each task, oldest first, with its nodes and open retry windows."""
    nodes: dict[int, list[NodeView]] = defaultdict(list)
    retries: dict[int, list[RetryWindow]] = defaultdict(list)
    with database.read() as session:
        found = session.scalars(select(Task).order_by(Task.id)).all()
        tasks, lengths = sharing.views(session, found), sharing.lengths(session, [task.id for task in found])
        for node in rows.nodes(session, select(Node.id)):
            nodes[node.task_id].append(node)
        for window in session.scalars(select(RetryWindow)):
            retries[window.task_id].append(window)
        now = time.time()
        return [(task, nodes[task.id], windows.view(retries[task.id], lengths[task.id], now)) for task in tasks]
