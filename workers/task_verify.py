"""A task is compared while it runs: by a worker, beside its streams, when nothing is behind."""

from __future__ import annotations

import time
from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError
from sync_tasks.states import RUNNING
from sync_tasks.verification import MOST_KEPT
from sync_tasks.views import NodeView, TaskView
from workers.beat import Beat
from workers.finish_steps import Later
from workers.ports import CutOverPort
from workers.verify import verify

LOOK_S = 1.0
"""How the task does is asked this often."""
WAIT_S = 2.0
"""Until it is asked again whether the task is in sync."""
MOST_TRIES = 5
"""Of a comparison with differences in which the task was behind, or was changed, for a while."""


def compare(port: CutOverPort, beat: Beat, source: Endpoint, target: Endpoint) -> None:
    """Carry a verification out; what it finds is kept.

    Raises:
        Later: the task is not in sync now; or was not all the while, so that what differs proves nothing.
        ControlError: `verify-stopped`: it does not run any more; `verify-disturbed`: it was never in sync for long.
        KeyferryError: what a side answers.
    """
    watch = _Watch(port, beat)
    if not all(node.in_sync and node.settled for node in watch.look()):
        raise Later(WAIT_S)
    task, asked = port.task, port.op.options
    # The target may hold keys of its own there: they are no differences, and nobody removes them.
    shares = task.spec.conflict_mode == "ignore-and-proceed"
    report = verify(
        source, target, databases=task.databases, filter_spec=task.spec.filter,
        extend_expiry_s=task.spec.extend_expiry_s, progress=watch, spec=task.spec.verify, repair=asked["repair"],
        keep_extra=shares, own_extra=shares,
    )  # fmt: skip
    watch.look()
    tries = asked["tries"] + 1
    if watch.disturbed and not report.equal:
        if tries >= MOST_TRIES:
            raise ControlError(
                "the task was behind, or was changed, each time that keys differed",
                hint="ask again once it is in sync for longer",
                code="verify-disturbed",
            )
        port.keep({**asked, "tries": tries})
        raise Later(WAIT_S)
    found = report.as_dict()
    port.keep({**asked, "progress": watch.said, "result": {**found, "keys": found["keys"][:MOST_KEPT]}})


class _Watch:
    """Told how far it is; looks at the task now and then.

    disturbed: its streams were not settled, or its settings were changed.
    """

    def __init__(self, port: CutOverPort, beat: Beat) -> None:
        self._port, self._beat = port, beat
        self._looked_at = time.monotonic()
        self.disturbed = False
        self.said: tuple[str, int, int] | None = None

    def __call__(self, phase: str, done: int, total: int) -> None:
        self._beat.check()
        self.said = phase, done, total
        if time.monotonic() - self._looked_at >= LOOK_S:
            self.look()
            self._port.keep({**self._port.op.options, "progress": self.said})

    def look(self) -> list[NodeView]:
        """The task's nodes. Raises ControlError if it does not run any more."""
        task, nodes = self._port.state()
        self._looked_at = time.monotonic()
        if task.state not in RUNNING or task.finishing or task.cutover is not None or task.uid != self._port.task.uid:
            raise ControlError(
                f"the task was {_why(task)} before all was compared", hint="ask again if it runs", code="verify-stopped"
            )
        self.disturbed |= not all(node.settled for node in nodes) or _what(task) != _what(self._port.task)
        return nodes


def _why(task: TaskView) -> str:
    return "cut over" if task.state in RUNNING else task.state.value


def _what(task: TaskView) -> Any:
    return task.databases, task.spec.filter, task.spec.extend_expiry_s, len(task.former)
