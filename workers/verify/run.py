"""One verification from beginning to end."""

from __future__ import annotations

from sync_tasks.endpoints import Endpoint
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
    extend_expiry_s: int = 600,
    progress: Progress = _silent,
    patience: Patience | None = None,
) -> Report:
    """Compare two servers exactly, while they are written to if need be. Only reads.

    Args:
        source, target: the servers; the `db` of their URLs is not looked at.
        databases: source to target number of those in scope; None: all, each to its own.
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
            return _run(Sides(ours, theirs, Shift(extend_expiry_s * 1000), patience), databases, progress)
        finally:
            theirs.close()
    finally:
        ours.close()


def _run(sides: Sides, databases: dict[int, int] | None, progress: Progress) -> Report:
    report = Report()
    walk = Walk(sides, report, progress)
    seen: set[Pair] = set()
    for _ in range(ROUNDS):
        scope = [pair for pair in pairs(sides, databases) if pair not in seen]
        if not scope:
            break
        seen.update(scope)
        walk.total += expected_keys(sides, scope)
        for pair in scope:
            walk.source_keys(pair)
        for pair in scope:
            walk.target_keys(pair)
    walk.settle()
    for finding in differing_libraries(sides):
        report.add(finding)
    report.in_flux = sides.patience.in_flux
    report.expired = walk.outlived.count
    return report
