"""Noticing that an owner beats no more; pure, without a database or clock."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

Mark = tuple[int, int]
"""Epoch and beat of a lease."""

LEASE_TTL_S = 4.0
"""Owners beat every second: three may be late. With the tick, a new owner has the work within 5 s."""


class Watch(Generic[K]):
    """Remembers since when each lease has shown the same mark.

    Args:
        ttl_s: seconds without a change after which a lease counts as dead.
    """

    def __init__(self, ttl_s: float = LEASE_TTL_S) -> None:
        self._ttl_s = ttl_s
        self._since: dict[K, tuple[Mark, float]] = {}

    def expired(self, seen: Mapping[K, Mark], now: float) -> list[K]:
        """Those of the leases held now whose marks have not changed for the ttl of `now`'s clock."""
        self._since = {
            key: known if (known := self._since.get(key)) and known[0] == mark else (mark, now)
            for key, mark in seen.items()
        }
        return [key for key, (_, since) in self._since.items() if now - since >= self._ttl_s]
