"""The two servers of a verification and how they are compared."""

from __future__ import annotations

from dataclasses import dataclass, field

from workers.verify.extent import Extent
from workers.verify.flux import Patience
from workers.verify.server import Server
from workers.verify.shift import Shift
from workers.verify.streams import Counters


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides.

    Args:
        source, target: the servers.
        shift: how much later expiries are on the target.
        patience: tells lasting differences from passing ones.
        extent: which keys are compared, and how closely.
    """

    source: Server
    target: Server
    shift: Shift
    patience: Patience
    extent: Extent = field(default_factory=Extent)

    @property
    def counters(self) -> Counters:
        """The counters of streams that can be compared."""
        both = self.source.stream_counters and self.target.stream_counters
        whole = self.source.whole_streams and self.target.whole_streams
        return Counters(both, both and self.source.passes_on_entries_read, whole)

    @property
    def timed_fields(self) -> bool:
        """Whether expiries of fields are compared: a target that has none cannot have wrong ones."""
        return self.target.field_expiry
