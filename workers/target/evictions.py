"""Keys that the target evicts: nothing of ours is refused then, and its own count alone tells."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from workers.saying import said
from workers.target.link import TargetLink

AGAIN_S = 60.0
"""A count that goes on rising is told this often."""
EVICTED = re.compile(rb"evicted_keys:(\d+)")
MAXMEMORY = re.compile(rb"maxmemory:(\d+)")
POLICY = re.compile(rb"maxmemory_policy:([\w-]+)")
NONE = b"noeviction"


def evicts(link: TargetLink) -> bool:
    """Whether the target evicts keys of every kind, and has done so."""
    said = b"".join(link.ask_all([[b"INFO", b"memory"], [b"INFO", b"stats"]]))
    return b"maxmemory_policy:allkeys" in said and b"evicted_keys:0" not in said


class Evictions:
    """What one owner of a stream has told of it.

    Args:
        event: records what people should know.
        first: nothing has been loaded yet: what was evicted before is none of ours. An owner that comes later does
            not know what was told, and tells the whole count.
    """

    def __init__(self, event: Callable[[str, str], None], first: bool) -> None:
        self._event = event
        self._told: int | None = None if first else 0
        self._told_at: float | None = None

    def ask(self, link: TargetLink) -> None:
        """Ask the target. Raises what the link raises, and Fenced."""
        memory, stats = link.ask_all([[b"INFO", b"memory"], [b"INFO", b"stats"]])
        if self._told is None:
            self._warn(memory)
        self.look(stats)

    def _warn(self, memory: bytes) -> None:
        limit, policy = MAXMEMORY.search(memory), POLICY.search(memory)
        if limit and policy and int(limit[1]) and policy[1] != NONE:
            said(
                self._event,
                "may-evict",
                f"the target may evict keys (maxmemory-policy {policy[1].decode()}, maxmemory {int(limit[1])}):"
                " set maxmemory-policy noeviction there",
            )

    def look(self, stats: bytes) -> None:
        """Tell what has come since, if anything. Raises Fenced.

        Args:
            stats: INFO's section of this name.
        """
        found = EVICTED.search(stats)
        if found is None:
            return
        count, now = int(found[1]), time.monotonic()
        if self._told is None:
            self._told = count
        elif count < self._told:
            self._told = 0  # the target has started anew, or its count was reset
        if count == self._told or (self._told_at is not None and now - self._told_at < AGAIN_S):
            return
        told = said(
            self._event,
            "evicted",
            f"the target has evicted {count - self._told} keys for want of memory; they are missing there until the"
            " source writes them anew: set maxmemory-policy noeviction, give it more memory, then run keyferry verify",
        )
        if told:
            self._told, self._told_at = count, now
