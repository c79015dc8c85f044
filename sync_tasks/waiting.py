"""Waiting in the database for what workers do: nothing but reading, so any number may wait for the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from sync_tasks.errors import ControlError, KeyferryError, Retry
from sync_tasks.progress import Problem
from sync_tasks.states import BESIDE, RUNNING, OpState, TaskState
from sync_tasks.store import Store
from sync_tasks.views import OpView, TaskView

FIRST_S = 0.05
LONGEST_S = 0.5
PATIENCE_S = 60.0
"""A database that cannot be reached for so long is an error; for less, a pause."""

LAST_WORDS_S = 5.0

T = TypeVar("T")

Check = Callable[[], bool]
"""Whether it is over; raises KeyferryError if it cannot end well."""


@dataclass(slots=True)
class Job:
    """One task of several, what is waited for, and what became of it."""

    given: str  # as the user named it
    task: TaskView | None = None
    check: Check | None = None
    error: KeyferryError | None = None


def wait(store: Store, jobs: Iterable[Job], wait_s: float | None) -> None:
    """Until all checks are fulfilled or have raised; what they raise stands in `error`.

    Args:
        wait_s: seconds for all together, 0: do not wait; None: as long as it takes.
    """
    if wait_s == 0:
        return
    began = time.monotonic()
    pending, pause, read_at = [job for job in jobs if job.check is not None], FIRST_S, began
    while True:
        try:
            pending = [job for job in pending if not _over(job)]
            read_at = time.monotonic()
        except ControlError as error:
            if error.retry is Retry.FATAL or time.monotonic() - read_at > PATIENCE_S:
                raise
        if not pending:
            return
        left = None if wait_s is None else began + wait_s - time.monotonic()
        if left is not None and left <= 0:
            break
        time.sleep(pause if left is None else min(pause, left))
        pause = min(LONGEST_S, pause * 1.5)
    for job in pending:
        assert job.task is not None
        job.error = late(store, job.task.id, time.monotonic() - began)


def _over(job: Job) -> bool:
    assert job.check is not None
    try:
        return job.check()
    except KeyferryError as error:
        if error.retry is not Retry.FATAL:
            raise  # of the database itself, which may be back in a moment
        job.error = error
        return True


def looks(look: Callable[[], T], every_s: float) -> Iterator[T]:
    """What `look` returns, again and again; a database that is away for a moment is a longer pause.

    Args:
        every_s: seconds between two looks.

    Raises:
        ControlError: the database cannot be read for a minute, or never will be.
    """
    read_at = time.monotonic()
    while True:
        try:
            found = look()
        except ControlError as error:
            if error.retry is Retry.FATAL or time.monotonic() - read_at > PATIENCE_S:
                raise
        else:
            read_at = time.monotonic()
            yield found
        time.sleep(every_s)


def both(first: Check, second: Check) -> Check:
    """One after the other."""
    return lambda: first() and second()


def over(store: Store, op: OpView) -> Check:
    """The operation has passed or failed."""
    return lambda: store.op(op.id).state in (OpState.DONE, OpState.FAILED)


def carried_out(store: Store, op: OpView) -> Check:
    """The operation was done. Raises what made it fail."""

    def check() -> bool:
        found = store.op(op.id)
        if found.state is OpState.FAILED:
            raise (Problem.held(found.error) or Problem.of(ControlError("it failed"))).exception()
        return found.state is OpState.DONE

    return check


def epochs(store: Store, task_id: int) -> dict[int, int]:
    """Of the task's nodes by id: each grows when a worker takes the node."""
    return {node.id: node.epoch for node in store.nodes(task_id)}


def running(store: Store, task_id: int, before: dict[int, int]) -> Check:
    """The task runs, and workers have taken all its streams since `before`. Raises why it does not."""

    def check() -> bool:
        task = store.task(task_id)
        _raise_failure(task)
        if task.state is TaskState.SUSPENDED:
            raise ControlError("it was suspended meanwhile", code="suspended", hint="start it again")
        taken = all(node.epoch > before.get(node.id, -1) for node in store.nodes(task_id))
        return task.state is TaskState.FINISHED or (task.state in RUNNING and taken)

    return check


def at_rest(store: Store, task_id: int) -> Check:
    """No stream of the task is at work on the target; one that is only received may be."""
    return lambda: not store.at_work(task_id)


def cut_over(store: Store, task_id: int, op: OpView, tell: Callable[[OpView], None]) -> Check:
    """The task is finished, and all is told of it. Raises why it will not be.

    Args:
        tell: is shown the operation as it is, again and again.
    """
    over_at: list[float] = []

    def check() -> bool:
        found = store.op(op.id)
        tell(found)
        task = store.task(task_id)
        if task.state in (TaskState.FINISHED, TaskState.RELEASED):
            over_at.append(time.monotonic())
            late = time.monotonic() - over_at[0] > LAST_WORDS_S  # whoever carries it out may be gone with the task
            return late or found.state in (OpState.DONE, OpState.FAILED)
        if found.state is OpState.FAILED:
            raise (Problem.held(found.error) or Problem.of(ControlError("it failed"))).exception()
        _raise_failure(task)
        if task.state is TaskState.SUSPENDED:
            raise ControlError(
                "it was suspended before it was cut over",
                code="suspended",
                hint="resume it: it goes on with the cut-over",
            )
        return False

    return check


def _raise_failure(task: TaskView) -> None:
    if task.state in (TaskState.FAILED, TaskState.PRECHECK_FAILED):
        raise (Problem.held(task.error) or Problem.of(ControlError("the task has failed", code="failed"))).exception()


def late(store: Store, task_id: int, waited_s: float) -> ControlError:
    """What is said when the time is up: whether anybody is at work, and that nothing was lost."""
    within = f"within {waited_s:.0f} s"
    op = next((op for op in reversed(store.ops(task_id)) if op.state in (OpState.READY, OpState.RUNNING)), None)
    task, owned = store.task(task_id), store.owned(task_id)
    if op is not None and op.state is OpState.READY and not op.epoch and (op.kind in BESIDE or not owned):
        return _no_worker(f"its {op.kind.value}", within)
    if op is None and task.state in RUNNING and not owned:
        return _no_worker("its stream", within)
    if op is not None and op.error:
        said = f"its {op.kind.value} has failed {op.attempts} times ({op.error['message']})"
    elif op is not None:
        said = f"its {op.kind.value} is not over {within}"
    elif task.state is TaskState.SUSPENDED:
        said = f"its streams have not reached a checkpoint {within}"
    else:
        said = f"it is {task.state.value} and not further {within}"
    return ControlError(said, code="timeout", hint="it goes on, and stays asked for: keyferry task show tells more")


def _no_worker(what: str, within: str) -> ControlError:
    return ControlError(
        f"no worker has taken {what} {within}", code="no-worker", hint="start one: keyferry up; it stays asked for"
    )
