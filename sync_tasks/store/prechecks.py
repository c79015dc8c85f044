"""What prechecks have found, item by item, and which warnings somebody has decided to ignore."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync_tasks import lifecycle
from sync_tasks.errors import ControlError, KeyferryError, UsageError
from sync_tasks.models import PrecheckItem, Task, utcnow
from sync_tasks.progress import Problem
from sync_tasks.states import ENDED, UNBEGUN, TaskState
from sync_tasks.store import rows
from sync_tasks.store.base import StoreBase
from sync_tasks.views import PrecheckItemView

if TYPE_CHECKING:
    from sync_tasks.precheck.item import Result
    from sync_tasks.precheck.scene import Route

EVENT = "warning"
"""Kind of the event in which a warning is recorded."""


class Prechecks(StoreBase):
    """Results of prechecks."""

    def routes(self, besides: int) -> tuple[Route, ...]:
        """Where the other tasks that have not ended copy from and to."""
        from sync_tasks.precheck.scene import Route

        with self.database.read() as session:
            tasks = session.scalars(select(Task).where(Task.id != besides, Task.state.not_in(ENDED))).all()
            return tuple(
                Route(task.name, task.source_server, task.target_server, rows.task_view(task).databases)
                for task in tasks
                if task.source_server and task.target_server
            )

    def precheck_items(self, task_id: int) -> list[PrecheckItemView]:
        """What was found the last time of each item, in no order; items that were only ignored, too."""
        with self.database.read() as session:
            return [_view(row) for row in _rows(session, task_id)]

    def record_precheck(self, task_id: int, results: Iterable[Result], ignored_by: str | None = None) -> None:
        """Keep what was found.

        Args:
            ignored_by: who goes on in spite of warnings; None: nobody does.
        """
        with self._task(task_id) as (session, _):
            record(session, task_id, results)
            if ignored_by is not None:
                _ignore(session, task_id, {r.item for r in results if r.finding == "warning"}, ignored_by)

    def ignore(self, task_id: int, items: Sequence[str]) -> None:
        """Let a start go on in spite of warnings of these items, now and in later prechecks.

        Raises:
            UsageError: there is no such item, or it is none that warns, or has failed.
            ControlError: the task has begun.
        """
        from sync_tasks.precheck.items import item_of

        with self._task(task_id) as (session, task):
            if task.state not in UNBEGUN:
                raise ControlError(f"the task is {task.state}", hint="its precheck is over", code="transition")
            known = {row.item: row for row in _rows(session, task_id)}
            for name in items:
                _refuse(item_of(name).warns, known.get(name), name)
            _ignore(session, task_id, set(items), "an operator")
            if task.state == TaskState.PRECHECK_FAILED and known and verdict(session, task) is None:
                lifecycle.move(session, task, TaskState.PRECHECK_PASSED, "what stood against it is ignored")


def record(session: Session, task_id: int, results: Iterable[Result]) -> None:
    """Keep what was found of a task that is held."""
    for result in results:
        row = _row(session, task_id, result.item)
        row.finding, row.at = result.finding.value, utcnow()
        row.found, row.repair = lifecycle.plain(result.found), lifecycle.plain(result.repair)
        row.error = lifecycle.as_dict(result.error) if result.error else None
        if result.finding == "warning":
            lifecycle.note(session, task_id, EVENT, f"{result.item}: {result.found}: {result.repair}")
    session.flush()


def verdict(session: Session, task: Task) -> KeyferryError | None:
    """Why a task that is held must not start; None: every item has passed or is ignored."""
    from sync_tasks.precheck.items import BY_ID

    known = {row.item: row for row in _rows(session, task.id)}
    found = [known[name] for name in BY_ID if name in known]
    for row in found:
        if row.error is not None and (problem := Problem.held(row.error)):
            return problem.exception()
    warnings = [row for row in found if row.finding == "warning" and not row.ignored]
    if not warnings:
        return None
    options = " ".join(f"--item {row.item}" for row in warnings)
    return ControlError(
        "; ".join(f"{row.item}: {row.found}" for row in warnings),
        hint=f"mend it, or ignore it: keyferry task ignore {task.id} {options}",
        code="precheck-warning",
    )


def _rows(session: Session, task_id: int) -> Sequence[PrecheckItem]:
    return session.scalars(select(PrecheckItem).where(PrecheckItem.task_id == task_id)).all()


def _row(session: Session, task_id: int, item: str) -> PrecheckItem:
    row = session.get(PrecheckItem, (task_id, item))
    if row is None:
        row = PrecheckItem(task_id=task_id, item=item, found="", repair="")
        session.add(row)
    return row


def _ignore(session: Session, task_id: int, items: Iterable[str], who: str) -> None:
    for name in sorted(items):
        row = _row(session, task_id, name)
        if not row.ignored:
            row.ignored = True
            lifecycle.note(session, task_id, "ignored", f"{name}: {who} goes on in spite of its warning")
    session.flush()


def _refuse(warns: bool, row: PrecheckItem | None, name: str) -> None:
    """Warnings alone can be ignored."""
    if not warns:
        raise UsageError(f"{name} cannot be ignored", hint="mend what it names; only warnings can be", code="no-ignore")
    if row is not None and row.error is not None:
        hint = f"mend it: {row.repair}"
        raise UsageError(f"{name} has failed, and cannot be ignored: {row.found}", hint=hint, code="no-ignore")


def _view(row: PrecheckItem) -> PrecheckItemView:
    return PrecheckItemView(row.item, row.finding, row.found, row.repair, row.ignored, row.at)
