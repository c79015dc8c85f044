"""The two servers of a verification and how they are compared."""

from __future__ import annotations

from dataclasses import dataclass

from workers.verify.flux import Patience
from workers.verify.server import Server
from workers.verify.shift import Shift


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides.

    Args:
        source, target: the servers.
        shift: how much later expiries are on the target.
        patience: tells lasting differences from passing ones.
    """

    source: Server
    target: Server
    shift: Shift
    patience: Patience

    @property
    def counted(self) -> bool:
        """Whether both know the counters of streams."""
        return self.source.stream_counters and self.target.stream_counters

    @property
    def timed_fields(self) -> bool:
        """Whether fields of hashes can expire on either side."""
        return self.source.field_expiry or self.target.field_expiry
