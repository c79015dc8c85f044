"""Cut-overs: asked for, looked at, and taken back."""

from __future__ import annotations

from sqlalchemy import select

from sync_tasks.cutover import Asked
from sync_tasks.errors import ControlError
from sync_tasks.models import Op
from sync_tasks.reversing import reversed_spec
from sync_tasks.states import RUNNING, OpKind, Stage, TaskState
from sync_tasks.store import rows, sharing
from sync_tasks.store.base import StoreBase
from sync_tasks.store.cutover_rows import own_alone, reverse
from sync_tasks.store.op_rows import add, busy, open_op, refuse_paused
from sync_tasks.store.runs import begin
from sync_tasks.views import OpView, TaskView


class CutOvers(StoreBase):
    """What operators ask."""

    def ask_finish(self, task_id: int, asked: Asked) -> OpView | None:
        """Ask for a cut-over; of one that is under way already, that one. None: the task is finished.

        A suspended task goes on first.

        Raises:
            ControlError: it does not run, or another operation is open.
            UsageError: it cannot be cut over so.
        """
        with self._run(task_id) as (session, task):
            if task.state == TaskState.FINISHED and not asked.dry_run:
                return None
            spec = rows.spec_of(task)
            asked.checked(spec)
            if asked.reverse:
                reversed_spec(spec, task.name)
                own_alone(task)
            found = open_op(session, task_id)
            same = found is not None and found.kind == OpKind.FINISH and Asked.of(found.options) == asked
            if found is not None and not same and not Asked.of(found.options).dry_run:
                raise busy(found)
            if task.state == TaskState.SUSPENDED and not asked.dry_run:
                begin(session, task)
            if found is not None and same:
                return rows.op_view(found)
            if task.state not in RUNNING:
                hint = "resume it, or see its events"
                raise ControlError(f"a task that is {task.state} cannot be finished", hint=hint, code="transition")
            op = add(session, task, OpKind.FINISH, asked=asked.as_dict(), steps=[], kept={})
            if not asked.dry_run and not task.finishing:
                task.cutover = Stage.ASKED
            return rows.op_view(op)

    def cut_overs(self, task_id: int, *, dry: bool = False) -> list[OpView]:
        """Those that were asked for, oldest first; or the dry runs."""
        query = select(Op).where(Op.task_id == task_id, Op.kind == OpKind.FINISH).order_by(Op.id)
        with self.database.read() as session:
            found = [rows.op_view(op) for op in session.scalars(query)]
        return [op for op in found if Asked.of(op.options).dry_run == dry]

    def watched(self, task_id: int) -> OpView | None:
        """What watches a source after its cut-over, or has."""
        query = select(Op).where(Op.task_id == task_id, Op.kind == OpKind.LATE).order_by(Op.id.desc()).limit(1)
        with self.database.read() as session:
            found = session.scalar(query)
            return None if found is None else rows.op_view(found)

    def ask_reverse(self, task_id: int) -> TaskView:
        """A task that goes back, from where the target's stream stood at the cut-over; prechecked and started.

        Raises:
            ControlError: it is not cut over; the target kept no stream then; or `paused`: writes to its source are.
            UsageError: its settings cannot be turned round.
        """
        with self._run(task_id) as (session, task):
            refuse_paused(session, task_id, self._clock(), both=True)
            made = reverse(session, task, self._box.open, self._box.seal)
            return sharing.view(session, made)
