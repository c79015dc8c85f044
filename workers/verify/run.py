"""One verification from beginning to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.verify_spec import VerifySpec, verify_limits
from workers.scope import Scope
from workers.verify.extent import extent
from workers.verify.findings import Kind, Pair, Report
from workers.verify.flux import Patience
from workers.verify.libraries import differing_libraries
from workers.verify.link import restarted
from workers.verify.mend import Mender
from workers.verify.parts import SOURCE, Piece
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
    spec: VerifySpec | None = None,
    repair: bool = False,
    keep_extra: bool = False,
    own_extra: bool = False,
    told: Callable[[dict[str, Any]], None] | None = None,
) -> Report:
    """Compare two servers exactly, while they are written to if need be. Only reads, unless it is to repair.

    Args:
        source, target: the servers; the `db` of their URLs is not looked at.
        databases: source to target number of those in scope; None: all, each to its own.
        filter_spec: which keys are in scope; None: all.
        extend_expiry_s: by how many seconds every expiry on the target must be later.
        progress: told the phase, keys done and keys expected.
        patience: how long a difference must last to count.
        spec: how closely, how many of the keys, and how fast; None: all of all, without limits.
        repair: copy what differs anew, and compare it again. Keys that only the target has are removed.
        keep_extra: but for those.
        own_extra: they are the target's own, and no differences.
        told: called with each difference, as in the report, as soon as it is known.

    Raises:
        KeyferryError: a side cannot be reached, refuses, or was restarted meanwhile.
    """
    with opened(source, target, extend_expiry_s, spec or VerifySpec(), patience) as sides:
        report = Report()
        if told is not None:
            report.told = lambda finding: told(finding.as_dict())
        walk = Walk(sides, report, progress, Scope(databases, filter_spec))
        _compare(walk, own_extra)
        if repair:
            _repair(walk, keep_extra)
        return report


@contextmanager
def opened(
    source: Endpoint, target: Endpoint, extend_expiry_s: int, spec: VerifySpec, patience: Patience | None = None
) -> Iterator[Sides]:
    """Both servers, as they are to be compared; arguments as of `verify`, and what it raises."""
    limits = verify_limits(spec.limits)
    ours = Server(source, limits)
    try:
        theirs = Server(target, limits)
        try:
            yield Sides(ours, theirs, Shift(extend_expiry_s * 1000), patience or Patience(), extent(spec))
        finally:
            theirs.close()
    finally:
        ours.close()


def verify_piece(
    sides: Sides, piece: Piece, scope: Scope, progress: Progress, *, repair: bool, keep_extra: bool
) -> Report:
    """Compare a part of two servers' keys, as `verify` compares all of them, which says what the arguments are.

    Raises ConnectionLost, `restarted`, if the server whose cursors it is of is another process by now.
    """
    walked = sides.source if piece.side == SOURCE else sides.target
    cursors, report = piece.share.range, Report()
    if cursors is not None and cursors.run != walked.link.info.get("run_id", ""):
        raise restarted(walked.endpoint.side)
    walk = Walk(sides, report, progress, scope)
    walk.total = piece.keys
    if piece.side == SOURCE:
        walk.source_keys(piece.pair, cursors, piece.share.slots)
    else:
        walk.target_keys(piece.pair, cursors, piece.share.slots)
    walk.settle()
    _count(walk)
    if repair:
        _repair(walk, keep_extra)
    return report


def _compare(walk: Walk, own_extra: bool) -> None:
    """Fill the report."""
    sides, report = walk.sides, walk.report
    seen: set[Pair] = set()
    for _ in range(ROUNDS):
        new = [pair for pair in pairs(sides, walk.scope.databases) if pair not in seen]
        if not new:
            break
        seen.update(new)
        walk.total += expected_keys(sides, new)
        for pair in new:
            walk.source_keys(pair)
        if not own_extra:
            for pair in {pair.target: pair for pair in new}.values():
                walk.target_keys(pair)
    walk.settle()
    for finding in differing_libraries(sides):
        report.add(finding)
    _count(walk)


def _count(walk: Walk) -> None:
    walk.report.in_flux = walk.sides.patience.in_flux
    walk.report.expired = walk.outlived.count


def _repair(walk: Walk, keep_extra: bool) -> None:
    """Mend what was found, and see whether it is equal since."""
    report = walk.report
    wanted = [f for f in report.findings if f.pair is not None and not (keep_extra and f.kind is Kind.EXTRA)]
    report.repaired = set()
    if not wanted:
        return
    mender = Mender(walk.sides, walk.scope, lambda done, total: walk.progress("repair", done, total))
    try:
        done = mender.mend(wanted)
        report.left = mender.left
    finally:
        mender.close()
    again = walk.again(done)
    differ = {(finding.pair, finding.key) for finding in again.findings}
    written = set(done) - differ
    report.repaired = {f for f in wanted if f.pair is not None and (f.pair, f.key) in written}
