"""How fast a task may go: its throttles and its class, and what of that holds for one worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictFloat, StrictInt

from sync_tasks.strict import Strict

MB = 1_000_000


def _unlimited(value: Any) -> Any:
    """Left empty is -1; 0, which would stand for never, is refused."""
    if value is None:
        return -1
    if type(value) in (int, float) and -1 < value <= 0:
        raise ValueError("0")
    return value


Rate = Annotated[StrictInt, Field(ge=-1, le=10**9), BeforeValidator(_unlimited)]
"""Commands a second; -1: no limit."""
Megabytes = Annotated[StrictInt | StrictFloat, Field(ge=-1, le=10**6), BeforeValidator(_unlimited)]
"""A second; -1: no limit."""

CLASSES = {
    "micro": 200,
    "small": 2000,
    "medium": 5000,
    "large": 11_000,
    "xlarge": 17_000,
    "2xlarge": 34_000,
    "4xlarge": 68_000,
    "6xlarge": 102_000,
    "8xlarge": 136_000,
    "unlimited": -1,
}
"""Instance class to the commands a second that the stream may have at most."""
Class = Literal[
    "micro", "small", "medium", "large", "xlarge", "2xlarge", "4xlarge", "6xlarge", "8xlarge", "unlimited"
]


class FullThrottle(Strict):
    """Of the load of a snapshot, all workers together."""

    source_qps: Rate = -1  # of the reader `scan`; a snapshot asks the source nothing
    target_rps: Rate = -1
    mb_per_s: Megabytes = -1


class IncrementalThrottle(Strict):
    """Of the stream, all source nodes together."""

    rps: Rate = -1
    mb_per_s: Megabytes = -1


class ThrottleSpec(Strict):
    """Both."""

    full: FullThrottle = FullThrottle()
    incremental: IncrementalThrottle = IncrementalThrottle()


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one worker: commands and bytes a second on the target; None: none."""

    rps: float | None = None
    bytes_per_s: float | None = None


NO_LIMITS = Limits()
UNTHROTTLED = ThrottleSpec()


def _least(*rates: float) -> float | None:
    return min((rate for rate in rates if rate > 0), default=None)


def load_limits(throttle: ThrottleSpec, loaders: int) -> Limits:
    """Of one of so many that load for a task."""
    full, share = throttle.full, max(1, loaders)
    return Limits(_least(full.target_rps / share), _least(full.mb_per_s * MB / share))


def reading_limits(throttle: ThrottleSpec, readers: int) -> Limits:
    """Of one of so many that read the source by ordinary commands for a task."""
    return Limits(_least(throttle.full.source_qps / max(1, readers)))


def stream_limits(throttle: ThrottleSpec, size: str, streams: int) -> Limits:
    """Of one of so many streams of a task of that class."""
    incremental, share = throttle.incremental, max(1, streams)
    return Limits(
        _least(incremental.rps / share, CLASSES[size] / share), _least(incremental.mb_per_s * MB / share)
    )
