"""Comparing before a target is closed, when what differs only because writes are paused is no difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import TargetError
from sync_tasks.verify_spec import VerifySpec
from sync_tasks.views import TaskView
from workers.expiry import FIELD_HOLD, held, held_field, source_time
from workers.moment import now_ms
from workers.verify import verify
from workers.verify.findings import Finding, Kind, shown
from workers.verify.flux import Patience
from workers.verify.server import Either, link_to

NAMED = 5
GONE = -2
MOST_FIELDS = 100_000
"""A larger hash that differs is not looked at closely: it is said to differ."""
STILL_S = (0.02, 0.1, 0.2, 0.4)
"""Before each re-check: what was written last is being settled on the target."""
SKEW_MS = 60_000
"""The source's clock may be ahead of ours by so much."""


def how(depth: str, given: VerifySpec) -> VerifySpec:
    """The comparison that a depth stands for, with the task's limits unless all is asked for."""
    if depth == "full":
        return VerifySpec()
    return given.model_copy(update={"depth": depth, "depth_above_bytes": 0} if depth != "value" else {"depth": depth})


def compare(
    source: Endpoint, target: Endpoint, task: TaskView, depth: str, check: Callable[[], None], *, still: bool
) -> tuple[int, int]:
    """How many keys were compared, and how many have expired meanwhile.

    Args:
        check: called all the while; raises to give up.
        still: nobody writes, so that what differs soon is known to last.

    Raises:
        TargetError: `verify-failed`: they differ.
        KeyferryError: what a side answers.
    """
    report = verify(
        source, target, databases=task.databases, filter_spec=task.spec.filter, extend_expiry_s=0,
        spec=how(depth, task.spec.verify), progress=lambda *_: check(),
        patience=Patience(STILL_S) if still else None,
    )  # fmt: skip
    check()
    ours = _may_have_more(task)
    passed = {finding for finding in report.findings if ours and finding.kind is Kind.EXTRA}
    hidden = _over(source, target, [finding for finding in report.findings if finding not in passed])
    passed |= hidden
    left = [finding for finding in report.findings if finding not in passed]
    more = report.counts.total() - len(report.findings)
    if left or (more and not ours):
        raise TargetError(
            f"{len(left) + more} differences: {'; '.join(map(_words, left[:NAMED]))}",
            code="verify-failed",
            hint="see all of them with keyferry verify, mend them with its --repair, and ask again",
        )
    return report.compared, report.expired + len(hidden)


def _may_have_more(task: TaskView) -> bool:
    """Whether the target may rightly hold keys that the source has not."""
    merged = task.databases is not None and len(set(task.databases.values())) < len(task.databases)
    return merged or task.spec.conflict_mode == "ignore-and-proceed"


def _over(source: Endpoint, target: Endpoint, findings: Sequence[Finding]) -> set[Finding]:
    """Those that differ only in what the source hides: a pause keeps it from deleting keys, and fields of hashes, whose
    time is over, and the target holds them until it is told to. The last window gives them their own time."""
    found: set[Finding] = set()
    wanted = [f for f in findings if f.pair and (f.kind is Kind.EXTRA or (f.kind is Kind.VALUE and f.field))]
    if not wanted:
        return found
    with closing(link_to(source)) as ours, closing(link_to(target)) as theirs:
        for finding in wanted:
            assert finding.pair is not None
            key, here, there = finding.key, finding.pair.source, finding.pair.target
            gone = finding.kind is Kind.EXTRA and _key_over(theirs, there, key)
            if gone or _fields_over(ours, here, theirs, there, key):
                found.add(finding)
    return found


def _key_over(theirs: Either, db: int, key: bytes) -> bool:
    pttl = theirs.probe(db, b"PTTL", key)
    if not isinstance(pttl, int):
        return False
    return pttl == GONE or (pttl > 0 and _is_over(pttl + now_ms(), held, lambda when: source_time(when)[0]))


def _fields_over(ours: Either, db: int, theirs: Either, to: int, key: bytes) -> bool:
    """Whether all by which a hash differs are fields whose time is over."""
    here, there = ours.probe(db, b"HGETALL", key), theirs.probe(to, b"HGETALL", key)
    if not (isinstance(here, list) and isinstance(there, list)) or len(there) > 2 * MOST_FIELDS:
        return False
    mine, other = dict(zip(here[::2], here[1::2], strict=True)), dict(zip(there[::2], there[1::2], strict=True))
    more = [name for name in other if name not in mine]
    if not more or any(other.get(name) != value for name, value in mine.items()):
        return False
    times = theirs.probe(to, b"HPEXPIRETIME", key, b"FIELDS", b"%d" % len(more), *more)
    return isinstance(times, list) and all(
        when == GONE or _is_over(when, held_field, lambda held_until: held_until - FIELD_HOLD) for when in times
    )


def _is_over(when: int, is_held: Callable[[int], bool], own: Callable[[int], int]) -> bool:
    """Whether a time on the target carries the hold, and is over without it."""
    return is_held(when) and own(when) <= now_ms() + SKEW_MS


def _words(finding: Finding) -> str:
    where = "" if finding.pair is None else f"db {finding.pair.source} "
    field = "" if finding.field is None else f" ({shown(finding.field)})"
    return f"{finding.kind.value} {where}{shown(finding.key)}{field}"
