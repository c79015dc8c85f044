"""Verifications of tasks: asked for by operators, or by a task's settings once its streams have begun."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync_tasks import lifecycle
from sync_tasks.cutover import incomparable
from sync_tasks.errors import ControlError, UsageError
from sync_tasks.models import Node, Op, Task
from sync_tasks.states import MAY, RUNNING, OpKind
from sync_tasks.store import parts, rows
from sync_tasks.store.base import StoreBase
from sync_tasks.store.op_rows import OPEN, add, busy
from sync_tasks.verification import Verification
from sync_tasks.views import OpView

OF = Op.kind == OpKind.VERIFY


class Verifications(StoreBase):
    """What operators ask."""

    def ask_verify(self, task_id: int, *, repair: bool) -> OpView:
        """Ask for a verification; of one that is under way already, that one.

        Args:
            repair: what differs is copied anew.

        Raises:
            ControlError: the task does not run, or another verification is open.
            UsageError: its two sides are not to be equal.
        """
        with self._task(task_id) as (session, task):
            if why := incomparable(rows.spec_of(task)):
                raise UsageError(why, hint="compare by a program of your own", code="transform")
            if task.state not in MAY[OpKind.VERIFY]:
                hint = "start or resume it; keyferry verify compares servers that no task follows"
                raise ControlError(f"a task that is {task.state} cannot be verified", hint=hint, code="transition")
            found = session.scalar(select(Op).where(Op.task_id == task_id, OF, Op.state.in_(OPEN)))
            if found is None:
                return rows.op_view(_add(session, task, repair=repair))
            if repair and not found.options["repair"]:
                raise busy(found)
            return rows.op_view(found)

    def verifications(self, task_id: int) -> list[OpView]:
        """Those of a task, oldest first."""
        query = select(Op).where(Op.task_id == task_id, OF).order_by(Op.id)
        with self.database.read() as session:
            return [rows.op_view(op) for op in session.scalars(query)]


def want(session: Session, task: Task) -> None:
    """Have a held task verified that is to be, once in a run, when its stream has begun; a worker waits until it is in
    sync."""
    if rows.spec_of(task).verify.mode == "off" or task.state not in RUNNING:
        return
    begun = session.scalar(select(Node.id).where(Node.task_id == task.id, Node.begun).limit(1))
    before = session.scalars(select(Op).where(Op.task_id == task.id, OF)).all()
    if begun is not None and not any(op.options["auto"] and op.options["uid"] == task.uid for op in before):
        _add(session, task, auto=True)


def ended(session: Session, task: Task, op: Op) -> None:
    """All was compared: what came of it, in words."""
    parts.drop(session, op)
    found = Verification.of(rows.op_view(op))
    lifecycle.note(session, task.id, "verified" if found.equal else "different", found.line())


def _add(session: Session, task: Task, *, repair: bool = False, auto: bool = False) -> Op:
    begun = {"cut": None, "progress": None, "result": None}
    return add(session, task, OpKind.VERIFY, repair=repair, auto=auto, uid=task.uid, **begun)
