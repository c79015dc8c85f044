"""The client's verbs about verification: compare the two sides of tasks, and look at what came of it."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from typing import overload

from sync_tasks import waiting
from sync_tasks.access.scopes import OPERATE, READ, needs
from sync_tasks.asking import each
from sync_tasks.entry import Entry
from sync_tasks.task import One, which
from sync_tasks.verification import Touched, Verification
from sync_tasks.views import OpView, TaskView
from sync_tasks.waiting import Check


class Verifying(Entry):
    """A part of `Client`."""

    @overload
    def verify(self, task: One, wait_s: float | None = ..., *, repair: bool = ...) -> Verification: ...  # type: ignore[overload-overlap]
    @overload
    def verify(
        self, task: Iterable[One], wait_s: float | None = ..., *, repair: bool = ...
    ) -> builtins.list[Verification]: ...
    @needs(OPERATE)
    def verify(
        self, task: One | Iterable[One], wait_s: float | None = None, *, repair: bool = False
    ) -> Verification | builtins.list[Verification]:
        """Compare both sides while the task follows on, as its settings `verify` say. A worker does, as soon as the
        task is in sync; a difference counts only if it lasts.

        Args:
            wait_s: seconds to wait for that; 0: only ask; None: as long as it takes.
            repair: what differs is copied anew, in step with the task's streams, and compared again. With
                conflict_mode ignore-and-proceed keys that only the target has are left alone.

        Raises:
            ControlError: `transition`: it does not run; `busy`: it is verified already, without repair;
                `verify-stopped`, `verify-disturbed`; `no-worker` or `timeout`: it is not over within `wait_s`.
            UsageError: `transform`: the two sides are not to be equal.
            KeyferryError: what a side answers.
        """
        held = dict[int, OpView]()

        def ask(view: TaskView) -> Check:
            op = held[view.id] = self._store.ask_verify(view.id, repair=repair)
            return waiting.carried_out(self._store, op)

        return each(self._store, task, ask, wait_s, lambda view: Verification.of(self._store.op(held[view.id].id)))

    @needs(READ)
    def verification(self, task: One) -> Verification | None:
        """The last one that was asked for, by somebody or by the setting verify.mode, and how far it is; None: none."""
        found = self._store.verifications(which(self._store, task).id)
        return Verification.of(found[-1]) if found else None

    @needs(READ)
    def touched(self, task: One) -> Touched | None:
        """What was found of the keys that its streams write, where verify.mode is full+incremental; None: nothing was
        looked at."""
        return Touched.of(self._store.touched(which(self._store, task).id))
