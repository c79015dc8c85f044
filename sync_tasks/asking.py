"""One verb for one task or many: all are asked, then waited for together; no error keeps another from its turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from sync_tasks.errors import KeyferryError
from sync_tasks.store import Store
from sync_tasks.task import One, Task, which
from sync_tasks.views import TaskView
from sync_tasks.waiting import Check, Job, wait

T = TypeVar("T")

Ask = Callable[[TaskView], Check | None]
"""Asks for something of a task; what is to be waited for, if anything."""


def each(
    store: Store, given: One | Iterable[One], ask: Ask, wait_s: float | None, result: Callable[[TaskView], T]
) -> T | list[T]:
    """What became of a task; of several, a list in their order.

    Args:
        wait_s: seconds for all together, 0: do not wait; None: as long as it takes.
        result: makes what is returned of a task as it is at the end.

    Raises:
        KeyferryError: the first error; of several tasks, it names each that failed.
    """
    # A text is one name, though it could be iterated.
    single = isinstance(given, int | str | Task)
    ones: Iterable[Any] = [given] if single else given  # type: ignore[assignment]
    jobs = [_asked(store, one, ask) for one in ones]
    wait(store, jobs, wait_s)
    failed = [(job.given, job.error) for job in jobs if job.error is not None]
    if failed:
        raise failed[0][1] if single else _together(failed)
    results = [result(store.task(job.task.id)) for job in jobs if job.task is not None]
    return results[0] if single else results


def _asked(store: Store, one: One, ask: Ask) -> Job:
    job = Job(one.name if isinstance(one, Task) else str(one))
    try:
        job.task = which(store, one)
        job.check = ask(job.task)
    except KeyferryError as error:
        job.error = error
    return job


def _together(failed: list[tuple[str, KeyferryError]]) -> KeyferryError:
    """The first error, with the name of each task and what it failed by."""
    first = failed[0][1]
    first.message = "; ".join(f"{name}: {error.message}" for name, error in failed)
    first.args = (first.message,)
    return first
