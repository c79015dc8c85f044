"""Histories by the thousand: `python -m tests.simulation --histories 100000 --seed 1`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.plan import FOCUS
from tests.simulation.run import Summary, run, traced

SHOW_S = 30.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--histories", type=int, default=100_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the first one; the others count on from it")
    parser.add_argument("--focus", choices=FOCUS, help="these faults alone")
    parser.add_argument("--trace", action="store_true", help="show the trace of the first history and end")
    parser.add_argument("--failures", type=int, default=1, help="go on until so many have failed")
    return parser.parse_args()


def report(summary: Summary, seconds: float) -> str:
    """What was run, what went wrong in it, and how it ended."""
    lines = [
        f"{summary.histories} histories in {seconds:.0f} s ({summary.histories / seconds:.0f}/s):"
        f" {summary.writes} writes of the source, {summary.windows} windows, {summary.steps} steps",
        "faults: " + ", ".join(f"{count} {name}" for name, count in summary.faults.most_common()),
        "ends:   " + ", ".join(f"{count} {name}" for name, count in summary.ends.most_common()),
    ]
    return "\n".join(lines)


def main() -> int:
    options = arguments()
    if options.trace:
        print(traced(options.seed, options.focus))
        return 0
    begun = shown = time.monotonic()

    def progress(summary: Summary) -> None:
        nonlocal shown
        if time.monotonic() - shown > SHOW_S:
            shown = time.monotonic()
            print(f"{summary.histories} ...", file=sys.stderr, flush=True)

    summary = run(range(options.seed, options.seed + options.histories), options.failures, progress, options.focus)
    print(report(summary, time.monotonic() - begun))
    for seed, reason in summary.failures:
        print(f"\nFAILED: seed {seed}: {reason}\n\n{traced(seed, options.focus)}")
    if not summary.failures:
        print("nothing was lost, nothing was done twice, and nobody wrote who must not")
    return 1 if summary.failures else 0


if __name__ == "__main__":
    sys.exit(main())
