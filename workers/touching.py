"""A stream job's side of comparing what the stream has written (`workers.touched`)."""

from __future__ import annotations

from sync_tasks.endpoints import Endpoint
from sync_tasks.views import Orders
from workers.applied import Progress
from workers.apply import Applier
from workers.lanes import Lanes
from workers.ports import StreamPort
from workers.touched import Touched


class Touching:
    """Args:
    source, target: both ends, whole: of a cluster all its shards.
    """

    def __init__(self, source: Endpoint, target: Endpoint) -> None:
        self._ends = source, target
        self._thread: Touched | None = None

    def anew(self, port: StreamPort, applier: Applier | Lanes) -> None:
        """Have what this applier writes compared, if the task's settings say so."""
        self.stop()
        if port.task.spec.verify.incremental:
            self._thread = Touched(port, *self._ends)
            applier.sample = self._thread.sample

    def turn(self, progress: Progress, orders: Orders, *, in_sync: bool) -> None:
        """How the stream is, several times a second. In a cut-over expiries become others than the settings say."""
        if self._thread is not None:
            ends = orders.settling or orders.finishing
            steady = in_sync and progress.settled_at is not None and not ends
            self._thread.turn(steady=steady, delay_ms=progress.delay_ms)

    def stop(self) -> None:
        """What is looked at is given up."""
        if self._thread is not None:
            self._thread.stop()
            self._thread = None
