"""Rows of operations: which one is open, and new ones."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync_tasks import lifecycle
from sync_tasks.cutover import Asked
from sync_tasks.errors import ControlError
from sync_tasks.models import Op, Task
from sync_tasks.observe import traces
from sync_tasks.states import BESIDE, OpKind, OpState, TaskState
from sync_tasks.store.runs import stop

OPEN = (OpState.READY, OpState.RUNNING)
ASIDE = (OpKind.LATE, OpKind.VERIFY, OpKind.PART)
"""Who only looks on is in nobody's way."""
MAY_GO_ON = frozenset({OpKind.MODIFY, OpKind.FINISH})
"""Operations during which a task may be suspended and resumed, and its streams go on."""


def open_op(session: Session, task_id: int) -> Op | None:
    """The operation of a held task that is not over."""
    open_ones = Op.task_id == task_id, Op.state.in_(OPEN), Op.kind.not_in(ASIDE)
    return session.scalar(select(Op).where(*open_ones))


def busy(op: Op) -> ControlError:
    """What is said to whoever comes in between."""
    return ControlError(f"its {op.kind} is not over yet", hint="wait for it: see the task's events", code="busy")


def refuse_paused(session: Session, task_id: int, now: float, *, both: bool) -> None:
    """Raise if writes to a held task's source are paused still, behind its cut-over.

    Args:
        now: Unix seconds.
        both: also if that ends by itself; else only where a setting has to be put back.
    """
    watching = session.scalar(select(Op).where(Op.task_id == task_id, Op.kind == OpKind.LATE, Op.state.in_(OPEN)))
    held = list((watching.options.get("held") or {}).values()) if watching is not None else []
    left = float(watching.options["held_until"]) - now if watching is not None else 0.0
    by_setting = any(not one["pause"] for one in held)
    if by_setting or (both and held and left > 0):
        raise ControlError(
            f"writes to the source are paused for another {max(left, 1):.0f} s", hint="ask again then", code="paused"
        )


def add(session: Session, task: Task, kind: OpKind, **options: Any) -> Op:
    """A new operation of a held task."""
    if kind is OpKind.PRECHECK or kind not in BESIDE:
        stop(session, task, f"for its {kind}")
    op = Op(task_id=task.id, kind=kind, state=OpState.READY, options={**options, **traces.carry()})
    session.add(op)
    if kind is OpKind.PRECHECK:
        lifecycle.move(session, task, TaskState.PRECHECKING, "asked")
    elif kind is not OpKind.LATE and not Asked.of(options).dry_run:
        lifecycle.note(session, task.id, kind, "asked")
    session.flush()
    return op
