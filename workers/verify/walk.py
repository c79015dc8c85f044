"""All keys in scope: the source's compared, the target's looked for on the source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sync_tasks.slots import Ranges
from workers.scope import Scope
from workers.spool.ranges import Range
from workers.verify.cluster import ClusterLink
from workers.verify.compare import Comparer
from workers.verify.findings import Finding, Kind, Pair, Report
from workers.verify.flux import Token
from workers.verify.outlived import Outlived
from workers.verify.scan import SCAN_COUNT, scan
from workers.verify.shift import NONE
from workers.verify.sides import Sides
from workers.verify.states import Aspect, States, Thing
from workers.verify.wire import arg, head, pack

MOST_CANDIDATES = 100_000  # differing keys that wait for their re-checks together
MOST_CANDIDATE_BYTES = 32 << 20  # of their names
EXISTS_GROUP = 64  # keys asked for by one EXISTS

Progress = Callable[[str, int, int], None]
"""Called with the phase, the keys done and the keys expected."""


class Walk:
    """One verification.

    Args:
        sides: the servers.
        report: filled with what lasts.
        progress: told how far it is.
        scope: its filter of keys is obeyed; None: all are compared.
    """

    def __init__(self, sides: Sides, report: Report, progress: Progress, scope: Scope | None = None) -> None:
        self.scope = scope or Scope(None)
        self.sides = sides
        self.report = report
        self.progress = progress
        self.outlived = Outlived(sides.source, sides.target, sides.shift)
        self.comparer = Comparer(sides, self.outlived)
        again = Outlived(sides.source, sides.target, sides.shift)  # counts for itself what it sees once more
        self.judge = Comparer(sides, again)
        self.on_source = States(sides.source, 0, sides.shift, sides.counters)
        self.on_target = States(sides.target, 1, NONE, sides.counters, again)
        self.candidates: dict[tuple[Pair, bytes], None] = {}
        self.candidate_bytes = 0
        self.done = 0
        self.total = 0

    def source_keys(self, pair: Pair, cursors: Range | None = None, slots: Ranges | None = None) -> None:
        """Compare every key that the source has in a pair of databases, or a part of them, as `scan` has it."""
        if not self.sides.source.link.has(pair.source):
            return
        there = self.sides.target.link.has(pair.target)
        for scanned in scan(self.sides.source, pair.source, cursors, slots):
            keys = self._in_scope(pair, scanned)
            if there and keys:
                self._take(self.comparer.compare(pair, keys))
            else:
                for key in keys:
                    self.report.add(Finding(pair, key, Kind.MISSING))
            self.report.compared += len(keys)
            self._step("compare", len(scanned))

    def keys(self, pair: Pair, keys: list[bytes]) -> None:
        """Compare some keys of a pair of databases."""
        there = self.sides.source.link.has(pair.source) and self.sides.target.link.has(pair.target)
        keys = self._in_scope(pair, keys)
        if keys and there:
            self._take(self.comparer.compare(pair, keys))
            self.report.compared += len(keys)

    def target_keys(self, pair: Pair, cursors: Range | None = None, slots: Ranges | None = None) -> None:
        """Find the keys that only the target has, of a part of its keys."""
        if not self.sides.target.link.has(pair.target):
            return
        homes = [db for db in self.scope.sources(pair.target) if self.sides.source.link.has(db)]
        for scanned in scan(self.sides.target, pair.target, cursors, slots):
            keys = [key for key in self.sides.extent.takes(scanned) if self.scope.ours(pair.target, key)]
            if homes:
                for home in homes:
                    keys = self._absent(home, keys) if keys else []
                extra = [Finding(pair, key, Kind.EXTRA) for key in keys]
                self._take(self.comparer.unexplained(pair, extra))
            else:
                for key in keys:
                    self.report.add(Finding(pair, key, Kind.EXTRA))
            self._step("look for extra keys", len(scanned))

    def _in_scope(self, pair: Pair, keys: list[bytes]) -> list[bytes]:
        keys = self.sides.extent.takes(keys)
        if not self.scope.filtered:
            return keys
        return [key for key in keys if self.scope.takes(pair.source, key)]

    def again(self, keys: Sequence[tuple[Pair, bytes]]) -> Report:
        """What of some keys differs now, and lasts."""
        found, self.report = self.report, Report()
        try:
            self.candidates = dict.fromkeys(keys)
            self.settle()
            return self.report
        finally:
            self.report = found

    def _step(self, phase: str, keys: int) -> None:
        self.done += keys
        self.total = max(self.total, self.done)
        self.progress(phase, self.done, self.total)

    def _absent(self, db: int, keys: list[bytes]) -> list[bytes]:
        """Those of `keys` that the source lacks. One EXISTS counts many; short counts are asked again."""
        link = self.sides.source.link
        most = 1 if isinstance(link, ClusterLink) else EXISTS_GROUP  # there keys of one command have one slot
        groups = [keys[i : i + most] for i in range(0, len(keys), most)]
        request = b"".join(head(len(group) + 1, b"EXISTS") + b"".join(map(arg, group)) for group in groups)
        counts = link.ask(db, request, len(groups))
        unsure = [key for group, count in zip(groups, counts, strict=True) if count < len(group) for key in group]
        if not unsure:
            return []
        answers = link.ask(db, b"".join(pack(b"EXISTS", key) for key in unsure), len(unsure))
        return [key for key, there in zip(unsure, answers, strict=True) if not there]

    def _take(self, findings: Iterable[Finding]) -> None:
        """Report what is proven; keep the others for re-checks, which begin when there are many."""
        for finding in findings:
            if finding.proven:
                self.report.add(finding)
                continue
            assert finding.pair is not None
            self.candidates[finding.pair, finding.key] = None
            self.candidate_bytes += len(finding.key)
        if len(self.candidates) >= MOST_CANDIDATES or self.candidate_bytes >= MOST_CANDIDATE_BYTES:
            self.settle()

    def settle(self) -> None:
        """Re-check all candidates and report those whose difference lasts."""
        if not self.candidates:
            return
        self.progress(f"re-check {len(self.candidates)} keys", self.done, self.total)
        things = [Thing(pair, key, aspect) for pair, key in self.candidates for aspect in Aspect]
        self.candidates.clear()
        self.candidate_bytes = 0
        lasting = self.sides.patience.lasting(things, self._on_source, self.on_target.read)
        aspects: dict[Pair, dict[bytes, set[Aspect]]] = {}
        for thing in lasting:
            aspects.setdefault(thing.pair, {}).setdefault(thing.key, set()).add(thing.aspect)
        for pair, of_key in aspects.items():
            keys = list(of_key)
            for start in range(0, len(keys), SCAN_COUNT):
                self._convict(pair, {key: of_key[key] for key in keys[start : start + SCAN_COUNT]})

    def _on_source(self, things: Sequence[Thing]) -> list[Token]:
        tokens = self.on_source.read(things)
        self.sides.source.now_ms()
        return tokens

    def _convict(self, pair: Pair, aspects: dict[bytes, set[Aspect]]) -> None:
        """Name what differs in keys that differ for good."""
        for finding in self.judge.compare(pair, list(aspects)):
            aspect = Aspect.EXPIRY if finding.kind is Kind.EXPIRY else Aspect.VALUE
            if finding.proven or aspect in aspects[finding.key]:
                self.report.add(finding)
