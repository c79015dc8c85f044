"""One look at the store: what displays show and the outcome is decided on."""

from __future__ import annotations

from sync_tasks.store import Store
from sync_tasks.supervise.outcome import Reading


def read(store: Store, task_id: int) -> Reading:
    """The task, its nodes, retry windows, and the load of each database. Raises ControlError."""
    # The chunks after the nodes: a chunk is recorded before `snapshot_done` says that there are no more.
    task, nodes, retries = store.task(task_id), store.nodes(task_id), store.retries(task_id)
    return Reading(task=task, nodes=tuple(nodes), retries=tuple(retries), loads=tuple(store.loads(task_id)))
