"""The client's verbs about the cut-over: try it, do it, look at what came of it, take it back."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from typing import overload

from sync_tasks import waiting
from sync_tasks.access.scopes import ADMIN, OPERATE, READ, needs
from sync_tasks.asking import each
from sync_tasks.cutover import DELAY_MS, PAUSE_S, Asked, CutOver, Step
from sync_tasks.entry import Entry
from sync_tasks.task import One, Task, which
from sync_tasks.views import OpView, TaskView
from sync_tasks.waiting import Check

WAIT_S = 30.0
Told = Callable[[str, Step], None]
"""Is called with a task's name and each step of its cut-over, as soon as the step is over."""


class Finishing(Entry):
    """A part of `Client`."""

    @overload
    def finish(  # type: ignore[overload-overlap]
        self,
        task: One,
        wait_s: float | None = ...,
        *,
        pause: bool = ...,
        pause_limit_s: int = ...,
        delay_threshold_ms: int = ...,
        verify: str | None = ...,
        force: bool = ...,
        way_back: bool = ...,
        reverse: bool = ...,
        told: Told | None = ...,
    ) -> Task: ...
    @overload
    def finish(
        self,
        task: Iterable[One],
        wait_s: float | None = ...,
        *,
        pause: bool = ...,
        pause_limit_s: int = ...,
        delay_threshold_ms: int = ...,
        verify: str | None = ...,
        force: bool = ...,
        way_back: bool = ...,
        reverse: bool = ...,
        told: Told | None = ...,
    ) -> builtins.list[Task]: ...
    @needs(OPERATE)
    def finish(
        self,
        task: One | Iterable[One],
        wait_s: float | None = None,
        *,
        pause: bool = False,
        pause_limit_s: int = PAUSE_S,
        delay_threshold_ms: int = DELAY_MS,
        verify: str | None = None,
        force: bool = False,
        way_back: bool = False,
        reverse: bool = False,
        told: Told | None = None,
    ) -> Task | builtins.list[Task]:
        """Cut over: wait until the target is near enough, see that nobody writes to the source, bring everything it
        has to the target, give every expiry the source's own time, compare, and close the target to the task for good.
        Until it is closed, anything that fails leaves the task as it was: it follows on.

        Args:
            wait_s: seconds to wait until that is done; 0: only ask; None: as long as it takes.
            pause: writes to the source may be paused (CLIENT PAUSE WRITE, or a setting where that is not to be had).
            pause_limit_s: seconds, 1..3600, that they may be paused until the target is closed; for as long behind that
                they stay so.
            delay_threshold_ms: milliseconds, 1..3600000, under which the delay must be.
            verify: off, key, length, value, or full; None: value, where the two sides are to be equal.
            force: also if somebody writes to the source; what is written behind the end is not carried.
            way_back: make the target keep its stream, so that `reverse` can follow it for as long as its backlog lasts.
            reverse: then make and start the task that goes back.
            told: hears of each step, while it is waited for.

        Raises:
            SourceError: `source-written`: somebody writes to the source; `pause-refused`, `pause-lost`, `pause-limit`.
            TargetError: `verify-failed`: they differ; `drain`; `no-way-back`.
            UsageError: it cannot be asked for so.
            KeyferryError: why it failed; `transition`: it does not run; `suspended`: it was suspended meanwhile;
                `timeout`: it is not done within `wait_s`, and goes on.
        """
        asked = Asked(
            pause=pause, pause_limit_s=pause_limit_s, delay_threshold_ms=delay_threshold_ms, verify=verify, force=force,
            way_back=way_back, reverse=reverse,
        )  # fmt: skip

        def ask(view: TaskView) -> Check:
            op = self._store.ask_finish(view.id, asked)
            if op is None:
                return lambda: True
            return waiting.cut_over(self._store, view.id, op, _telling(view.name, told))

        return each(self._store, task, ask, wait_s, Task.of)

    @needs(OPERATE)
    def try_finish(
        self,
        task: One,
        wait_s: float | None = WAIT_S,
        *,
        pause: bool = False,
        pause_limit_s: int = PAUSE_S,
        delay_threshold_ms: int = DELAY_MS,
        verify: str | None = None,
        force: bool = False,
        way_back: bool = False,
        reverse: bool = False,
    ) -> CutOver:
        """Go through the steps of `finish` without changing anything: of each, whether it would pass now.

        Raises:
            UsageError: it cannot be asked for so.
            ControlError: `transition`: the task does not run; `no-worker` or `timeout`: it is not over within `wait_s`.
            KeyferryError: what keeps a step from being tried.
        """
        asked = Asked(
            pause=pause, pause_limit_s=pause_limit_s, delay_threshold_ms=delay_threshold_ms, verify=verify, force=force,
            way_back=way_back, reverse=reverse, dry_run=True,
        )  # fmt: skip
        held = dict[int, OpView]()

        def ask(view: TaskView) -> Check:
            op = self._store.ask_finish(view.id, asked)
            assert op is not None
            held[view.id] = op
            return waiting.carried_out(self._store, op)

        return each(self._store, task, ask, wait_s, lambda view: CutOver.of(self._store.op(held[view.id].id)))  # type: ignore[return-value]

    @needs(READ)
    def cut_over(self, task: One) -> CutOver | None:
        """What came of the last cut-over that was asked for, step by step; None: none was."""
        task_id = which(self._store, task).id
        found = self._store.cut_overs(task_id)
        return CutOver.of(found[-1], self._store.watched(task_id)) if found else None

    @needs(ADMIN)
    def reverse(self, task: One) -> Task:
        """Take a cut-over back: make and start a task from the new master to the old one, which follows what was
        written since the target was closed, and copies nothing else. It is prechecked like any other.

        Raises:
            ControlError: `transition`: the task is not finished; `no-way-back`: the target kept no stream; `paused`:
                writes to its source are paused still.
            UsageError: `no-way-back`: databases were merged, or a transform changed what came, or a role was used.
        """
        return Task.of(self._sealing().ask_reverse(which(self._store, task).id))


def _telling(name: str, told: Told | None) -> Callable[[OpView], None]:
    """Tells each step once."""
    seen = 0

    def tell(op: OpView) -> None:
        nonlocal seen
        steps = CutOver.of(op).steps
        if len(steps) < seen:
            seen = 0  # it was interrupted, and has begun again
        for step in steps[seen:] if told is not None else ():
            told(name, step)  # type: ignore[misc]
        seen = len(steps)

    return tell
