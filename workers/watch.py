"""The watch: a thread that notices what no connection tells.

A master that was cut off from its Sentinels goes on answering, and takes writes that will be lost, after they have made
another one. A replica may fall behind while its link to us is in order, and one come back while the master is read.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError
from workers.receive import Receiver
from workers.source.sources import Sources

Told = Callable[[str], None]
EVERY_S = 5.0
LATE_S = 15.0
"""What the master has written must have come by a replica within so long."""
LOOK_EVERY_S = 30.0


class Watch(threading.Thread):
    """Args:
    source, target: both ends; those are asked for that Sentinels know.
    receiver: of the source.
    sources: all connections by which it is asked.
    target_moved: told the address of the target's master.
    """

    def __init__(
        self, source: Endpoint, target: Endpoint, receiver: Receiver, sources: Sources, target_moved: Told
    ) -> None:
        super().__init__(name="watch", daemon=True)
        told = (source, receiver.place.moved), (source, sources.moved), (target, target_moved)
        self._told = [(end, tell) for end, tell in told if end.is_sentinel]
        self._receiver, self._place = receiver, receiver.place
        self._source = sources.new()
        self._due: tuple[float, int] | None = None  # monotonic seconds and an offset that is to be there by then
        self._looked = time.monotonic()
        self._over = threading.Event()

    def start(self) -> None:
        """Nothing to do if no end is named by Sentinels, and no replica is read."""
        if self._told or self._place.prefer_replica:
            super().start()

    def stop(self) -> None:
        """It ends by itself, after an answer that it waits for."""
        self._over.set()

    def run(self) -> None:
        while not self._over.wait(EVERY_S):
            for end, tell in self._told:
                with contextlib.suppress(KeyferryError):  # who does not answer is noticed by those who need it
                    tell(end.now().address())
            if self._place.prefer_replica:
                with contextlib.suppress(KeyferryError):
                    self._mind()

    def _mind(self) -> None:
        """Whether a replica falls behind, or one has come back."""
        now, received = time.monotonic(), self._receiver.log.end
        if not self._place.is_replica:
            self._due = None
            if now - self._looked >= LOOK_EVERY_S:
                self._looked = now
                self._place.look(received)
            return
        if self._due is None:
            self._due = now + LATE_S, self._source.offset()
        by, offset = self._due
        if (received or 0) >= offset:
            self._due = None
        elif now > by:
            self._due = None
            self._place.late()
