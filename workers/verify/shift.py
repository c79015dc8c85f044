"""The time by which the target's expiries are later than the source's."""

from __future__ import annotations

from dataclasses import dataclass

LATEST_KEY_MS = 2**63 - 1
LATEST_FIELD_MS = 2**46 - 1


@dataclass(frozen=True, slots=True)
class Shift:
    """Adds `ms` milliseconds to moments; what is negative stands for no moment and stays."""

    ms: int

    def key(self, moment: int) -> int:
        """Of a key; saturates."""
        return moment if moment < 0 else min(moment + self.ms, LATEST_KEY_MS)

    def field(self, moment: int) -> int:
        """Of a hash field; saturates, but a moment beyond the end stays where it is."""
        return moment if moment < 0 else max(moment, min(moment + self.ms, LATEST_FIELD_MS))


NONE = Shift(0)
