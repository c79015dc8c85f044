"""A load worker compares one part of a task's two sides, while the task runs (`workers.task_verify`)."""

from __future__ import annotations

import time
from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, ControlError
from sync_tasks.states import RUNNING
from sync_tasks.verification import MOST_KEPT
from sync_tasks.verify_spec import verify_limits
from sync_tasks.views import NodeView, TaskView
from workers.beat import Beat
from workers.finish_steps import Later
from workers.ports import PartPort
from workers.scope import Scope
from workers.verify.link import RESTARTED
from workers.verify.parts import Piece
from workers.verify.run import opened, verify_piece
from workers.verify.sides import Sides

LOOK_S = 1.0
"""How the task does is asked this often, and how fast the part may go."""
WAIT_S = 2.0
"""Until a task that is behind is looked at again."""
MOST_TRIES = 5
"""Of a comparison with differences in which the task was behind, or was changed, for a while."""


def compare_part(port: PartPort, source: Endpoint, target: Endpoint) -> None:
    """Carry a part out, or give it back if nothing can be told now; what it finds is kept.

    Raises:
        Fenced: the verification is over, or somebody else has the part.
        ControlError: `verify-stopped`: the task does not run any more; `verify-disturbed`: it was never in sync for
            long.
        KeyferryError: what a side answers.
    """
    try:
        with Beat(port.renew) as beat:
            _compare(port, beat, source, target)
    except Later as later:
        port.later(later.seconds)
        return
    port.done()


def _compare(port: PartPort, beat: Beat, source: Endpoint, target: Endpoint) -> None:
    watch = Watch(port, beat)
    if not all(node.in_sync and node.settled for node in watch.look()):
        raise Later(WAIT_S)
    task, asked = port.task, port.op.options
    # The target may hold keys of its own there: they are no differences, and nobody removes them.
    shares = task.spec.conflict_mode == "ignore-and-proceed"
    try:
        with opened(source, target, task.spec.extend_expiry_s, task.spec.verify) as sides:
            watch.share(sides)
            report = verify_piece(
                sides, Piece.of(asked["piece"]), Scope(task.databases, task.spec.filter), watch,
                repair=asked["repair"], keep_extra=shares,
            )  # fmt: skip
    except ConnectionLost as error:
        if error.code != RESTARTED:
            raise
        port.keep({**asked, "anew": error.side.value})
        return
    watch.look()
    if watch.disturbed and not report.equal:
        tries = asked["tries"] + 1
        if tries >= MOST_TRIES:
            raise ControlError(
                "the task was behind, or was changed, each time that keys differed",
                hint="ask again once it is in sync for longer",
                code="verify-disturbed",
            )
        port.keep({**asked, "tries": tries})
        raise Later(WAIT_S)
    found = report.as_dict()
    port.keep({**asked, "done": watch.done, "result": {**found, "keys": found["keys"][:MOST_KEPT]}})


class Watch:
    """Told how far a part is; looks at the task now and then.

    disturbed: its streams were not settled, or its settings were changed.
    """

    def __init__(self, port: PartPort, beat: Beat) -> None:
        self._port, self._beat = port, beat
        self._looked_at = time.monotonic()
        self._sides: Sides | None = None
        self.disturbed = False
        self.done = 0  # keys

    def share(self, sides: Sides) -> None:
        """From now on these go no faster than the part may."""
        self._sides = sides
        self._limit(self._port.task)

    def __call__(self, phase: str, done: int, total: int) -> None:
        self._beat.check()
        self.done = done
        if time.monotonic() - self._looked_at >= LOOK_S:
            self.look()
            self._port.keep({**self._port.op.options, "done": done})

    def look(self) -> list[NodeView]:
        """The task's nodes. Raises ControlError if it does not run any more."""
        task, nodes = self._port.state()
        self._looked_at = time.monotonic()
        check_runs(task, self._port.task)
        self.disturbed |= not all(node.settled for node in nodes) or compared(task) != compared(self._port.task)
        self._limit(task)
        return nodes

    def _limit(self, task: TaskView) -> None:
        if self._sides is not None:
            limits = verify_limits(task.spec.verify.limits, self._port.at_once())
            self._sides.source.link.pace.limits = self._sides.target.link.pace.limits = limits


def check_runs(task: TaskView, before: TaskView) -> None:
    """Raise ControlError if a task, as it is now, does not run as it did before."""
    if task.state not in RUNNING or task.finishing or task.cutover is not None or task.uid != before.uid:
        raise ControlError(
            f"the task was {_why(task)} before all was compared", hint="ask again if it runs", code="verify-stopped"
        )


def compared(task: TaskView) -> Any:
    """Which keys of a task are compared, and with what."""
    return task.databases, task.spec.filter, task.spec.extend_expiry_s, len(task.former)


def _why(task: TaskView) -> str:
    return "cut over" if task.state in RUNNING else task.state.value
