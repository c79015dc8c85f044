"""What came of the verification of a task, and of keys that its streams write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from sync_tasks.progress import Problem
from sync_tasks.states import OpState
from sync_tasks.views import OpView

KINDS = ("missing", "extra", "type", "value", "expiry")
MOST_KEPT = 1_000
"""Differences that the database names; the others are counted."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One of a key: `kind` is one of KINDS, `field` what of it differs; of a function library `db` is None."""

    db: int | None  # of the source
    key: str  # or hex:, as `keyferry verify` has it
    kind: str
    field: str | None
    repaired: bool
    why: str | None = None  # it was not, if that is known


@dataclass(frozen=True, slots=True)
class Verification:
    """One verification as it was when it was read. Counts are None until it is over."""

    state: str  # asked, running, done, failed
    by_itself: bool  # the setting verify.mode asked for it
    repair: bool
    phase: str | None  # what is being done
    keys_done: int | None
    keys_total: int | None  # of both sides, about
    keys_per_s: float | None  # lately; None: not known, or it is over
    parts_done: int | None  # of those that load workers compare side by side
    parts: int | None
    compared: int | None  # keys of the source
    differences: int | None
    repaired: int | None
    counts: dict[str, int]  # of differences, by kind
    keys: tuple[Difference, ...]  # the first MOST_KEPT
    error: Problem | None

    @classmethod
    def of(cls, op: OpView) -> Self:
        """Of the operation."""
        state = {OpState.READY: "running" if op.epoch else "asked", OpState.RUNNING: "running"}.get(op.state)
        found, phase = op.options["result"], op.options["progress"] or (None, None, None)
        over, parts = op.options.get("parts") or (None, None)
        counts = {kind: found[kind] for kind in KINDS} if found else {}
        return cls(
            state=state or op.state.value,
            by_itself=op.options["auto"],
            repair=op.options["repair"],
            phase=None if found else phase[0],
            keys_done=phase[1],
            keys_total=phase[2],
            keys_per_s=None if found else op.options.get("keys_per_s"),
            parts_done=over,
            parts=parts,
            compared=found["compared"] if found else None,
            differences=sum(counts.values()) if found else None,
            repaired=found.get("repaired", 0) if found else None,
            counts=counts,
            keys=tuple(Difference(**{"repaired": False, **key}) for key in found["keys"]) if found else (),
            error=Problem.held(op.error),
        )

    @property
    def equal(self) -> bool | None:
        """Whether nothing differs, or all that did was repaired; None: that is not known."""
        return None if self.differences is None else self.differences == self.repaired

    def line(self) -> str:
        """In a line."""
        if self.error is not None and self.state == "failed":
            return f"failed: {self.error.message}"
        if self.compared is None:
            at = f", {self.phase}: {self.keys_done:,} of {self.keys_total:,} keys" if self.phase else ""
            parts = f", {self.parts_done} of {self.parts} parts" if self.phase and self.parts else ""
            rate = f", {self.keys_per_s:,.0f} keys/s" if self.phase and self.keys_per_s else ""
            return self.state + at + parts + rate
        said = ", ".join(f"{count:,} {kind}" for kind, count in self.counts.items() if count) or "equal"
        mended = f"; {self.repaired:,} repaired" if self.repair and self.differences else ""
        return f"{self.compared:,} keys compared: {said}{mended}"

    def as_dict(self) -> dict[str, Any]:
        """As `--json` has it."""
        return asdict(self) | {"equal": self.equal, "keys": [asdict(key) for key in self.keys]}


@dataclass(frozen=True, slots=True)
class Written:
    """A key that the stream has written, and that differed when last looked at, though it had come to rest."""

    db: int  # of the source
    key: str
    kind: str
    field: str | None
    at: str  # when it was found, ISO 8601


@dataclass(frozen=True, slots=True)
class Touched:
    """What was found of the keys that streams write (verify.mode full+incremental), of all source nodes together."""

    compared: int  # looks at a key shortly after it was written
    differences: int  # that have outlived their re-checks, since the task began
    counts: dict[str, int]  # of those, by kind
    in_flux: int  # keys that changed all the while: they were let go
    keys: tuple[Written, ...]  # the first of those that still differed when last looked at
    error: str | None  # why nothing can be compared now

    @classmethod
    def of(cls, found: Sequence[Mapping[str, Any]]) -> Self | None:
        """Of what the database has of each node; None: nothing was looked at."""
        if not found:
            return None
        counts = {kind: sum(one[kind] for one in found) for kind in KINDS}
        return cls(
            compared=sum(one["compared"] for one in found),
            differences=sum(counts.values()),
            counts=counts,
            in_flux=sum(one["in_flux"] for one in found),
            keys=tuple(Written(**key) for one in found for key in one["keys"]),
            error=next((one["error"] for one in found if one["error"]), None),
        )

    def line(self) -> str:
        """In a line."""
        said = ", ".join(f"{count:,} {kind}" for kind, count in self.counts.items() if count) or "equal"
        now = f"; {len(self.keys):,} of them still differ" if self.keys else "; all equal by now"
        waits = f" (waits: {self.error})" if self.error else ""
        return f"{self.compared:,} keys compared after a write: {said}{now if self.differences else ''}{waits}"

    def as_dict(self) -> dict[str, Any]:
        """As `--json` has it."""
        return asdict(self) | {"keys": [asdict(key) for key in self.keys]}
