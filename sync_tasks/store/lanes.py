"""What a stream job writes of the parts of a target that is a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import update
from sqlalchemy.orm import Session

from sync_tasks import lanes
from sync_tasks.lanes import Closed, Lane
from sync_tasks.models import Node, Task
from sync_tasks.store import rows
from sync_tasks.views import TaskView


class LanesHandle:
    """Of one owner's hold on a node."""

    task: TaskView

    if TYPE_CHECKING:

        def _write(self) -> AbstractContextManager[tuple[Session, Node, Task]]: ...

    def set_lanes(self, given: Sequence[Lane]) -> tuple[Lane, ...]:
        """The parts of a target, unless another node of the task was faster: those that hold."""
        with self._write() as (_, _, task):
            if task.lanes is None:
                task.lanes = lanes.written(given)
            self.task = rows.task_view(task)
        return self.task.lanes

    def settle_lanes(self, numbers: Sequence[int]) -> None:
        """The node's stream has its place in these lanes, which were made later."""
        with self._write() as (_, node, task):
            task.lanes = lanes.written(
                replace(lane, founded=(*lane.founded, node.number))
                if lane.number in numbers and node.number not in lane.founded
                else lane
                for lane in lanes.read(task.lanes)
            )
            self.task = rows.task_view(task)

    def close_lanes(self, closed: Mapping[int, Closed]) -> None:
        """The node's stream has closed its lanes, by their numbers: where a way back begins. The last word holds."""
        with self._write() as (_, node, task):
            task.lanes = lanes.written(
                replace(lane, closed=(*(one for one in lane.closed if one.node != node.number), closed[lane.number]))
                if lane.number in closed
                else lane
                for lane in lanes.read(task.lanes)
            )
            self.task = rows.task_view(task)

    def change_lanes(self, before: Sequence[Lane], after: Sequence[Lane]) -> None:
        """Slots of the target have moved: all jobs of the task end at a checkpoint, and go on with other lanes. Nothing
        if another was faster."""
        with self._write() as (session, _, task):
            if lanes.read(task.lanes) == tuple(before):
                task.lanes = lanes.written(after)
                session.execute(update(Node).where(Node.task_id == task.id, Node.wanted).values(turn=True))
