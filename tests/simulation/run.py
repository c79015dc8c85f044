"""Many histories, one after the other."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.history import History, Outcome, trace
from tests.simulation.oracle import Failure
from tests.simulation.seams import seams

MEMORY = Path("/dev/shm")


@dataclass(slots=True)
class Summary:
    """What has been run, and what failed: seed and reason."""

    histories: int = 0
    writes: int = 0
    windows: int = 0
    steps: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.writes += outcome.writes
        self.windows += outcome.windows
        self.steps += outcome.steps
        self.ends[outcome.end] += 1
        self.faults += outcome.faults


def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="keyferry-simulation-", dir=MEMORY if MEMORY.is_dir() else None)


def run(
    seeds: Iterable[int],
    most_failures: int = 1,
    progress: Callable[[Summary], None] = lambda _: None,
    focus: str | None = None,
) -> Summary:
    """One history for each seed; ends early with so many failures."""
    summary = Summary()
    with _directory() as directory, seams() as here:
        for seed in seeds:
            history = History(seed, Path(directory) / str(seed), focus)
            here.begin(history)
            summary.histories += 1
            try:
                summary.add(history.run())
            except Failure as failure:
                summary.failures.append((seed, str(failure)))
            except Exception as error:
                summary.failures.append((seed, f"{type(error).__name__}: {error}"))
            if len(summary.failures) >= most_failures:
                break
            progress(summary)
    return summary


def traced(seed: int, focus: str | None = None) -> str:
    """The readable trace of one history."""
    with _directory() as directory, seams() as here:
        return trace(seed, Path(directory) / str(seed), focus, here.begin)
