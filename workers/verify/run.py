"""One verification from beginning to end."""

from __future__ import annotations

from sync_tasks.endpoints import Endpoint
from sync_tasks.keyfilter import FilterSpec
from workers.scope import Scope
from workers.verify.findings import Pair, Report
from workers.verify.flux import Patience
from workers.verify.libraries import differing_libraries
from workers.verify.scope import expected_keys, pairs
from workers.verify.server import Server
from workers.verify.shift import Shift
from workers.verify.sides import Sides
from workers.verify.walk import Progress, Walk

ROUNDS = 10  # of looking for databases that were empty when it began


def _silent(phase: str, done: int, total: int) -> None:
    """No progress is shown."""


def verify(
    source: Endpoint,
    target: Endpoint,
    *,
    databases: dict[int, int] | None = None,
    filter_spec: FilterSpec | None = None,
    extend_expiry_s: int = 600,
    progress: Progress = _silent,
    patience: Patience | None = None,
) -> Report:
    """Compare two servers exactly, while they are written to if need be. Only reads.

    Args:
        source, target: the servers; the `db` of their URLs is not looked at.
        databases: source to target number of those in scope; None: all, each to its own.
        filter_spec: which keys are in scope; None: all.
        extend_expiry_s: by how many seconds every expiry on the target must be later.
        progress: told the phase, keys done and keys expected.
        patience: how long a difference must last to count.

    Raises:
        KeyferryError: a side cannot be reached, refuses, or was restarted meanwhile.
    """
    patience = patience or Patience()
    ours = Server(source)
    try:
        theirs = Server(target)
        try:
            sides = Sides(ours, theirs, Shift(extend_expiry_s * 1000), patience)
            return _run(sides, Scope(databases, filter_spec), progress)
        finally:
            theirs.close()
    finally:
        ours.close()


def _run(sides: Sides, scope: Scope, progress: Progress) -> Report:
    report = Report()
    walk = Walk(sides, report, progress, scope)
    seen: set[Pair] = set()
    for _ in range(ROUNDS):
        new = [pair for pair in pairs(sides, scope.databases) if pair not in seen]
        if not new:
            break
        seen.update(new)
        walk.total += expected_keys(sides, new)
        for pair in new:
            walk.source_keys(pair)
        for pair in {pair.target: pair for pair in new}.values():
            walk.target_keys(pair)
    walk.settle()
    for finding in differing_libraries(sides):
        report.add(finding)
    report.in_flux = sides.patience.in_flux
    report.expired = walk.outlived.count
    return report
