"""The one task of a state directory: made at the first start, taken up again at every later one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, Side, UsageError
from sync_tasks.spec import TaskSpec
from sync_tasks.states import ENDED, UNBEGUN, TaskState
from sync_tasks.store import Store
from sync_tasks.views import TaskView

FINAL = {
    "fenced": "a copy of this state directory has taken over: go on there, or take another --state",
    "refused-command": "mend the key on the target, then start anew with another --state, ignore-and-proceed",
    "cannot-continue": "start anew with another --state; ignore-and-proceed overwrites what is on the target",
}
"""Failures that trying again cannot heal, and what to do instead."""

NEXT = {
    TaskState.NOT_CONFIGURED: TaskState.NOT_STARTED,
    TaskState.NOT_STARTED: TaskState.PRECHECKING,
    TaskState.PRECHECK_FAILED: TaskState.PRECHECKING,
    TaskState.PRECHECKING: TaskState.PRECHECK_PASSED,
}
"""What follows for a task that has passed its checks; an earlier start may have died behind any of these."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for. `scope`: source to target database, None for all."""

    source: Endpoint
    target: Endpoint
    spec: TaskSpec
    scope: dict[int, int] | None


def open_task(store: Store, wanted: Wanted, check: Callable[[], None]) -> TaskView:
    """The task, started.

    Args:
        check: the prechecks; called at the first start alone, before anything is recorded.

    Raises:
        KeyferryError: a check failed, or the task of this directory is another one or cannot go on.
    """
    task = store.only_task()
    if task is None:
        check()
        task = store.create_task(wanted.spec, wanted.source, wanted.target)
    else:
        same(task, wanted)
        ended(task)
        if task.state in UNBEGUN:
            check()
        store.set_endpoints(task.id, wanted.source, wanted.target)
        store.update_spec(task.id, wanted.spec)
    while (state := TaskState(store.task(task.id).state)) in NEXT:
        store.transition(task.id, NEXT[state], "first start", None)
    store.start(task.id)
    return store.task(task.id)


def same(task: TaskView, wanted: Wanted) -> None:
    """The directory's task is the one that is asked for. A changed user or password is no difference.

    Raises:
        UsageError: it is another.
    """
    # Without the query: files it names may be gone by now, and an address is all that is compared.
    held = (
        Endpoint.stored(task.source.partition("?")[0], Side.SOURCE),
        Endpoint.stored(task.target.partition("?")[0], Side.TARGET),
    )
    for there, here in zip(held, (wanted.source, wanted.target), strict=True):
        if not there.is_same_place(here):
            raise UsageError(
                f"this state directory belongs to another {here.side.value}, {there.address()},"
                f" and not to {here.address()}",
                code="other-task",
                hint=f"give that {here.side.value} again, or another directory with --state",
            )
    if task.databases != wanted.scope:
        raise UsageError(
            f"this state directory's task has {_scope(task.databases)}, not {_scope(wanted.scope)}",
            code="other-task",
            hint="databases cannot be changed once it has begun: give them as before, or another --state",
        )


def ended(task: TaskView) -> None:
    """Nothing stands against going on. Raises ControlError or the UsageError that says what does."""
    if task.state in ENDED:
        raise UsageError(
            f"the task of this state directory is {task.state.value}: it never writes to the target again",
            code="ended",
            hint="give another directory with --state",
        )
    code = (task.error or {}).get("code", "")
    if task.state == TaskState.FAILED and code in FINAL:
        side = Side((task.error or {}).get("side", Side.CONTROL))
        raise ControlError(
            f"it failed for good: {(task.error or {}).get('message', code)}",
            code=code,
            side=side,
            hint=FINAL[code],
        )


def _scope(databases: dict[int, int] | None) -> str:
    if databases is None:
        return "all databases"
    return "databases " + ", ".join(f"{here} to {there}" for here, there in sorted(databases.items()))
