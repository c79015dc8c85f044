"""What the Python client hands out: tasks, events and prechecks as frozen values, without secrets."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sync_tasks.errors import ControlError, UsageError
from sync_tasks.nearest import nearest
from sync_tasks.progress import Problem
from sync_tasks.sharing import Shortest
from sync_tasks.spec import TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.store import Store
from sync_tasks.views import EventView, TaskView

Event = EventView
UID_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Task:
    """One task as it was when it was read."""

    id: int
    uid: str  # 16 hex digits, part of every key of its own on the target; a restart gives it another
    name: str
    state: TaskState
    source: str  # URL for showing: no password in it
    target: str
    settings: TaskSpec = field(hash=False)  # with `databases` as they are, the URLs' /db included
    error: Problem | None  # why it failed, or what it waits for
    finishing: bool  # the cut-over was asked for
    created_at: datetime | None  # UTC
    connection_window: Shortest  # how long failed connections are retried now: minutes, and by whose setting

    @classmethod
    def of(cls, view: TaskView) -> Task:
        """Of what the store says."""
        settings = view.spec.model_copy(update={"name": view.name, "databases": view.databases})
        return cls(
            id=view.id,
            uid=view.uid,
            name=view.name,
            state=view.state,
            source=view.source,
            target=view.target,
            settings=settings,
            error=Problem.held(view.error),
            finishing=view.finishing or view.cutover is not None,
            created_at=view.created_at,
            connection_window=view.shared or Shortest(view.spec.retry.connection_min),
        )

    def as_dict(self) -> dict[str, Any]:
        """The object of `keyferry task ... --json`: only types that JSON knows."""
        return {
            "id": self.id,
            "uid": self.uid,
            "name": self.name,
            "state": self.state.value,
            "source": self.source,
            "target": self.target,
            "finishing": self.finishing,
            "error": asdict(self.error) if self.error else None,
            "created_at": self.created_at.isoformat() if self.created_at else None,
            "settings": self.settings.model_dump(mode="json", exclude={"name"}),
            "connection_window": asdict(self.connection_window),
        }


@dataclass(frozen=True, slots=True)
class PrecheckItem:
    """One item of a precheck: what it looks at, and what it found the last time."""

    id: str
    title: str
    why: str
    state: str | None  # passed, warning, failed, skipped; None: not asked yet
    found: str
    repair: str
    ignorable: bool  # a warning of it can be ignored
    ignored: bool

    @property
    def stands_against(self) -> bool:
        """Whether a start fails by it."""
        return self.state == "failed" or (self.state == "warning" and not self.ignored)


@dataclass(frozen=True, slots=True)
class Precheck:
    """What a precheck has found. `passed` is None while it is not over."""

    task: Task
    passed: bool | None
    error: Problem | None  # the first thing that is wrong
    items: tuple[PrecheckItem, ...] = ()  # what was found the last time, in the order of the docs

    def as_dict(self) -> dict[str, Any]:
        """The object of `keyferry task precheck --json`."""
        error = asdict(self.error) if self.error else None
        items = [asdict(item) for item in self.items]
        return {"id": self.task.id, "name": self.task.name, "passed": self.passed, "error": error, "items": items}


One = int | str | Task
"""A task by its id, its uid or name, or itself."""


def which(store: Store, one: One) -> TaskView:
    """The task that is meant.

    Text is a uid, else an id, else a name; of several tasks of that name the one that is not released.

    Raises:
        ControlError: there is none.
        UsageError: several have that name.
    """
    if isinstance(one, Task | int):
        found_task = store.task(one if isinstance(one, int) else one.id)
        if store.account not in ("", found_task.account):
            raise ControlError(f"there is no task {found_task.id}", hint="see the task list", code="no-task")
        return found_task
    tasks = store.tasks()
    found = [task for task in tasks if task.uid == one] or [task for task in tasks if str(task.id) == one]
    return found[0] if found else _named(tasks, one)


def _named(tasks: Sequence[TaskView], name: str) -> TaskView:
    found = [task for task in tasks if task.name == name]
    found = [task for task in found if task.state is not TaskState.RELEASED] or found
    if not found:
        near = difflib.get_close_matches(name, [task.name for task in tasks], n=1)
        hint = f"did you mean {near[0]}?" if near else "give the id, the uid or the name of a task that exists"
        raise ControlError(f"there is no task {name}", hint=hint, code="no-task")
    if len(found) > 1:
        ids = ", ".join(str(task.id) for task in found)
        raise UsageError(f"{len(found)} tasks have the name {name}", hint=f"give an id: {ids}", code="ambiguous")
    return found[0]


TAGS = ("environment", "resource_group")


def tagged(task: TaskView, tags: Mapping[str, str | None]) -> bool:
    """Whether a task has these settings. Raises UsageError for a name that is none of TAGS."""
    for name, wanted in tags.items():
        if name not in TAGS:
            raise UsageError(f"tasks have no tag {name}", hint=nearest(name, TAGS), code="unknown-setting")
        if wanted is not None and getattr(task.spec, name) != wanted:
            return False
    return True
