"""How closely and how fast two servers are compared."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictFloat, StrictInt

from sync_tasks.strict import Strict
from sync_tasks.throttle import MB, Limits, Megabytes, Rate

Depth = Literal["value", "length", "key"]
Mode = Literal["off", "full", "full+incremental"]


class VerifyLimits(Strict):
    """Of what each side is asked."""

    rps: Rate = -1
    mb_per_s: Megabytes = -1


class VerifySpec(Strict):
    """Of `keyferry verify`, and of a task that is verified.

    `mode` full: once by itself, when it has come in sync; full+incremental: and from then on what the stream writes.
    """

    mode: Mode = "off"
    depth: Depth = "value"
    depth_above_bytes: Annotated[StrictInt, Field(ge=0, le=1 << 40)] = 0
    sample: Annotated[StrictInt | StrictFloat, Field(gt=0, le=100)] = 100
    keys_per_s: Annotated[StrictInt, Field(ge=1, le=1000)] = 100
    limits: VerifyLimits = VerifyLimits()

    @property
    def incremental(self) -> bool:
        """Whether a sample of what the stream writes is compared."""
        return self.mode == "full+incremental"


def verify_limits(limits: VerifyLimits, parts: int = 1) -> Limits:
    """For one side, and one of so many parts that are compared at the same time."""
    rps, bytes_per_s = limits.rps / parts, limits.mb_per_s * MB / parts
    return Limits(rps if rps > 0 else None, bytes_per_s if bytes_per_s > 0 else None)
