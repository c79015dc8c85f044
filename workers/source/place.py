"""Where the stream is read: the source itself, or a replica of it, chosen anew for each link."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sync_tasks.endpoints import Endpoint
from sync_tasks.replicas import choose

AVOID_S = 60.0
"""A replica that fell behind is not taken again for so long."""


class Place:
    """What the receiver links itself to.

    Args:
        endpoint: the source node.
        prefer_replica: whether a replica is to be read where one is fit.
        event: told when it is another server than before, and why it is the master.
    """

    def __init__(self, endpoint: Endpoint, prefer_replica: bool, event: Callable[[str, str], None]) -> None:
        self._endpoint, self.prefer_replica, self._event = endpoint, prefer_replica, event
        self.at: str | None = None  # address of the link that there is, or was last
        self.is_replica = False
        self.leave = threading.Event()  # the link is to be made anew
        self._told = ""
        self._avoid: dict[str, float] = {}  # addresses to monotonic seconds

    def choose(self, least: int | None) -> Endpoint:
        """The one server to link to. Raises what finding it does.

        Args:
            least: up to where the log has the stream; None: a snapshot is to come.
        """
        self.leave.clear()
        if not self.prefer_replica:
            found = self._endpoint.now()
            self.at = found.address()
            return found
        reading = choose(self._endpoint, least or 0, self._avoided())
        self.at, self.is_replica = reading.endpoint.address(), reading.replica
        self._tell(f"the replica {self.at} is read" if reading.replica else f"the master is read: {reading.why}")
        return reading.endpoint

    def _avoided(self) -> set[str]:
        now = time.monotonic()
        self._avoid = {at: until for at, until in self._avoid.items() if until > now}
        return set(self._avoid)

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._event("replica", text)

    # --- whoever watches

    def moved(self, address: str) -> None:
        """The master is at this address now. A replica stays what it is, if it follows the new one."""
        if not self.is_replica and self.at not in (None, address):
            self.leave.set()

    def late(self) -> None:
        """The replica lags behind its master: another is to be taken."""
        if self.is_replica and self.at is not None:
            self._avoid[self.at] = time.monotonic() + AVOID_S
            self.leave.set()

    def look(self, least: int | None) -> None:
        """Take a replica that is fit again, if the master is read. Raises and takes what `choose` does."""
        wanting = self.prefer_replica and self.at is not None and not self.is_replica
        if wanting and choose(self._endpoint, least or 0, self._avoided()).replica:
            self.leave.set()
