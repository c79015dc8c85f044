"""Parts of a verification: operations of their own, which load workers carry out side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from sync_tasks.models import Op, Task
from sync_tasks.states import OpKind, OpState
from sync_tasks.store import rows
from sync_tasks.store.op_rows import OPEN
from sync_tasks.views import OpView, TaskView

OF = Op.kind == OpKind.PART
BEGUN = {"done": 0, "tries": 0, "anew": None, "result": None}
"""Of each part: keys walked so far, comparisons that prove nothing, the side by which all has to be cut anew, what was
found."""


class PartsHandle:
    """What the worker of a verification asks of its parts, and that of a part of the others; part of `ops.OpHandle`."""

    _store: Any
    task: TaskView
    op: OpView
    _held: Callable[[Session], Op]

    def parts(self) -> list[OpView]:
        """Those of the verification, in order."""
        query = select(Op).where(Op.task_id == self.task.id, OF).order_by(Op.id)
        with self._store.database.read() as session:
            return [rows.op_view(op) for op in session.scalars(query)]

    def divide(self, pieces: Sequence[dict[str, Any]], options: dict[str, Any]) -> None:
        """Have these compared, and remember how far the verification is by that: both or nothing. Each names what it is
        in `piece`, and for people in `says`."""
        with self._store._task(self.task.id) as (session, _task):
            self._held(session).options = options
            for piece in pieces:
                options = {**BEGUN, **piece, "of": self.op.id, "repair": self.op.options["repair"]}
                session.add(Op(task_id=self.task.id, kind=OpKind.PART, state=OpState.READY, options=options))

    def anew(self) -> None:
        """All is to be cut anew: what the parts have found is not looked at, and those at work are over."""
        with self._store._task(self.task.id) as (session, _task):
            op = self._held(session)
            drop(session, op)
            op.options = {**op.options, "again": cut_anew(op) + 1}

    def at_once(self) -> int:
        """How many parts are at work now, the own one among them: they share what they may ask the servers."""
        query = select(func.count(Op.id)).where(Op.task_id == self.task.id, OF, Op.state == OpState.RUNNING)
        with self._store.database.read() as session:
            return max(1, session.scalar(query) or 0)


def over(session: Session, _task: Task, op: Op) -> None:
    """A part has ended, one way or the other: the verification goes on at once if it was the last one."""
    left = select(Op.id).where(Op.task_id == op.task_id, OF, Op.state.in_(OPEN), Op.id != op.id).limit(1)
    if op.state == OpState.FAILED or session.scalar(left) is None:
        waits = Op.id == op.options["of"], Op.state == OpState.READY
        session.execute(update(Op).where(*waits).values(next_at=None, dispatched_at=None))


def cut_anew(op: Op) -> int:
    """How often that was done. A version before this did not count."""
    return int(op.options.get("again", 0))


def went_on(op: Op) -> None:
    """Somebody has looked after the verification, and nothing failed: what failed before and passed counts no more."""
    if op.kind == OpKind.VERIFY:
        op.attempts = cut_anew(op)


def drop(session: Session, op: Op) -> None:
    """The verification is over, or begins anew: so are its parts, also those at work."""
    session.execute(delete(Op).where(Op.task_id == op.task_id, OF))
    op.options = {**op.options, "cut": None}
