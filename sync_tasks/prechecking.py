"""The client's verbs about prechecks: ask, look at what was found, ignore what is known to do no harm."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from typing import overload

from sync_tasks import waiting
from sync_tasks.access.scopes import OPERATE, READ, needs
from sync_tasks.asking import each
from sync_tasks.entry import Entry
from sync_tasks.progress import Problem
from sync_tasks.states import OpKind, OpState
from sync_tasks.task import One, Precheck, PrecheckItem, Task, which
from sync_tasks.views import OpView, TaskView
from sync_tasks.waiting import Check

WAIT_S = 30.0


class Prechecking(Entry):
    """A part of `Client`."""


    @overload
    def precheck(self, task: One, wait_s: float | None = ..., *, items: Sequence[str] | None = ...) -> Precheck: ...  # type: ignore[overload-overlap]
    @overload
    def precheck(
        self, task: Iterable[One], wait_s: float | None = ..., *, items: Sequence[str] | None = ...
    ) -> builtins.list[Precheck]: ...
    @needs(OPERATE)
    def precheck(
        self, task: One | Iterable[One], wait_s: float | None = WAIT_S, *, items: Sequence[str] | None = None
    ) -> Precheck | builtins.list[Precheck]:
        """Have a worker ask both servers whether the task can start. What it finds wrong is returned, not raised.

        Args:
            wait_s: seconds to wait for that; 0: only ask; None: as long as it takes.
            items: ids of those to ask again, docs/precheck.md has them; the others keep what was found. None: all.

        Raises:
            UsageError: there is no such item.
            ControlError: `no-worker` or `timeout`: it is not over within `wait_s`, and stays asked for;
                `transition`: the task has begun.
        """
        from sync_tasks.precheck.items import item_of

        wanted = None if items is None else [item_of(name).id for name in items]
        asked = dict[int, OpView]()

        def ask(view: TaskView) -> Check:
            op = asked[view.id] = self._store.request(view.id, OpKind.PRECHECK, items=wanted)
            return waiting.over(self._store, op)

        def found(view: TaskView) -> Precheck:
            op = self._store.op(asked[view.id].id)
            passed = {OpState.DONE: True, OpState.FAILED: False}.get(op.state)
            return Precheck(Task.of(view), passed, Problem.held(op.error), self._items(view.id))

        return each(self._store, task, ask, wait_s, found)

    @needs(READ)
    def precheck_items(self, task: One) -> tuple[PrecheckItem, ...]:
        """Every item, with what was found of it the last time."""
        return self._items(which(self._store, task).id)

    @overload
    def ignore(self, task: One, items: Sequence[str]) -> Task: ...  # type: ignore[overload-overlap]
    @overload
    def ignore(self, task: Iterable[One], items: Sequence[str]) -> builtins.list[Task]: ...
    @needs(OPERATE)
    def ignore(self, task: One | Iterable[One], items: Sequence[str]) -> Task | builtins.list[Task]:
        """Let a task start in spite of warnings of these items: found already, or by a later precheck.

        It is recorded. What has failed cannot be ignored.

        Args:
            items: their ids.

        Raises:
            UsageError: there is no such item, or it does not warn, or has failed.
            ControlError: `transition`: the task has begun.
        """

        def ask(view: TaskView) -> None:
            self._store.ignore(view.id, items)

        return each(self._store, task, ask, 0, Task.of)

    def _items(self, task_id: int) -> tuple[PrecheckItem, ...]:
        from sync_tasks.precheck.items import ITEMS

        rows = {row.item: row for row in self._store.precheck_items(task_id)}
        found = []
        for item in ITEMS:
            row = rows.get(item.id)
            state, text, repair = (row.finding, row.found, row.repair) if row else (None, "", "")
            ignored = row is not None and row.ignored
            found.append(PrecheckItem(item.id, item.title, item.why, state, text, repair, item.warns, ignored))
        return tuple(found)
