"""A cut-over by steps: what is asked of it, and what is told of each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from sync_tasks.errors import UsageError
from sync_tasks.progress import Problem
from sync_tasks.spec import TaskSpec
from sync_tasks.states import OpState
from sync_tasks.views import OpView

DELAY_MS = 1000
PAUSE_S = 60
LONGEST_PAUSE_S = 3600
LONGEST_DELAY_MS = 3_600_000
DEPTHS = ("off", "key", "length", "value", "full")
"""How much is compared. `value`: within the task's settings `verify`; `full`: all of every key, without limits."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a cut-over is to do.

    pause: writes to the source may be paused. pause_limit_s: for so long at most until the target is closed, and for so
        long behind that.
    delay_threshold_ms: it does not begin while the delay is more.
    verify: one of DEPTHS; None: `value`, where that can be compared.
    force: also if somebody writes to the source: what that is behind the end is not carried.
    way_back: the target is made to keep its stream, so that a task can follow it back.
    reverse: such a task is made and started.
    dry_run: go through the steps, and change nothing.
    """

    pause: bool = False
    pause_limit_s: int = PAUSE_S
    delay_threshold_ms: int = DELAY_MS
    verify: str | None = None
    force: bool = False
    way_back: bool = False
    reverse: bool = False
    dry_run: bool = False

    def checked(self, spec: TaskSpec) -> Self:
        """Itself, if a task with these settings can be asked for it. Raises UsageError."""
        _in_range("pause_limit_s", self.pause_limit_s, 1, LONGEST_PAUSE_S)
        _in_range("delay_threshold_ms", self.delay_threshold_ms, 1, LONGEST_DELAY_MS)
        if spec.listens:
            raise UsageError(
                'a task with reader = "scan" is not cut over: notifications do not say which write is the last',
                hint="set extend_expiry_s = 0 by `keyferry task modify`, end the writes to the source, wait until the"
                " task is in sync, compare by `keyferry verify`, then suspend it",
                code="reader",
            )
        if self.verify not in (None, *DEPTHS):
            raise UsageError(f"verify: {self.verify} is no depth", hint=f"one of {', '.join(DEPTHS)}", code="verify")
        if self.verify not in (None, "off") and (why := incomparable(spec)):
            raise UsageError(
                f"it cannot be verified: {why}", code="verify", hint="leave --verify out, or say --verify off"
            )
        return self

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """As an operation's options hold it."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in options.get("asked", {}).items() if name in known})

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def depth(self, spec: TaskSpec) -> str:
        """One of DEPTHS."""
        return self.verify or ("off" if incomparable(spec) else "value")


def incomparable(spec: TaskSpec) -> str:
    """Why the two sides of a task are not to be equal; empty: they are."""
    if spec.transform.active:
        return "what a transform has made of the source's keys cannot be compared with them"
    return "" if spec.loads else "a task that only follows has not brought what was there before"


def _in_range(name: str, value: int, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise UsageError(f"{name}: {value!r} is out of range", hint=f"give {least}..{most}", code="out-of-range")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a cut-over: what came of it."""

    name: str
    state: str  # passed, failed, skipped, warning
    text: str
    seconds: float | None  # that it took


@dataclass(frozen=True, slots=True)
class CutOver:
    """A cut-over as it was when it was read."""

    asked: Asked
    state: str  # asked, running, done, failed
    steps: tuple[Step, ...]
    paused_s: float | None  # writes to the source were paused for so long until the target was closed
    verified_s: float | None  # of that, comparing took
    offsets: tuple[int, ...]  # of each source node, behind which nothing is carried; (): not closed
    late: str | None  # what was written to the source behind that, and by whom
    error: Problem | None

    @classmethod
    def of(cls, op: OpView, late: OpView | None = None) -> Self:
        """Of the operation, and the one that watches the source afterwards."""
        state = {OpState.READY: "running" if op.epoch else "asked", OpState.RUNNING: "running"}.get(op.state)
        kept = op.options.get("kept", {})
        return cls(
            asked=Asked.of(op.options),
            state=state or op.state.value,
            steps=tuple(Step(**step) for step in op.options.get("steps", ())),
            paused_s=kept.get("paused_s"),
            verified_s=kept.get("verified_s"),
            offsets=tuple(kept.get("offsets", ())),
            late=late.options.get("late") if late is not None else None,
            error=Problem.held(op.error),
        )

    @property
    def would_pass(self) -> bool:
        """Whether no step has failed: of a dry run, whether the cut-over would come to its end."""
        return self.error is None and not any(step.state == "failed" for step in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """As `--json` has it."""
        return asdict(self) | {
            "would_pass": self.would_pass,
            "steps": [asdict(step) for step in self.steps],
            "offsets": list(self.offsets),
        }
