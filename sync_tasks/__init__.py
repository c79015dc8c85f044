"""Keyferry for programs: `from sync_tasks import Client`. Names are imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sync_tasks.client import Client
    from sync_tasks.errors import (
        ControlError,
        KeyferryError,
        Retry,
        Side,
        SourceError,
        TargetError,
        UsageError,
    )
    from sync_tasks.progress import NodeProgress, Problem, Progress, RetryState
    from sync_tasks.spec import RetrySpec, TaskSpec
    from sync_tasks.states import TaskState
    from sync_tasks.task import Event, Precheck, PrecheckItem, Task

__all__ = [
    "Client",
    "ControlError",
    "Event",
    "KeyferryError",
    "NodeProgress",
    "Precheck",
    "PrecheckItem",
    "Problem",
    "Progress",
    "Retry",
    "RetrySpec",
    "RetryState",
    "Side",
    "SourceError",
    "TargetError",
    "Task",
    "TaskSpec",
    "TaskState",
    "UsageError",
]

_HOME = {
    "client": ("Client",),
    "errors": ("ControlError", "KeyferryError", "Retry", "Side", "SourceError", "TargetError", "UsageError"),
    "progress": ("NodeProgress", "Problem", "Progress", "RetryState"),
    "spec": ("RetrySpec", "TaskSpec"),
    "states": ("TaskState",),
    "task": ("Event", "Precheck", "PrecheckItem", "Task"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
