"""All keys in scope: the source's compared, the target's looked for on the source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sync_tasks.names import KEY_PREFIX
from workers.verify.compare import Comparer
from workers.verify.findings import Finding, Kind, Pair, Report
from workers.verify.server import Server
from workers.verify.shift import NONE
from workers.verify.sides import Sides
from workers.verify.states import Aspect, States, Thing
from workers.verify.wire import arg, head, pack

SCAN_COUNT = 1000
MOST_CANDIDATES = 100_000  # differing keys that wait for their re-checks together
MOST_CANDIDATE_BYTES = 32 << 20  # of their names
EXPIRED = b"expired"  # as the field of an extra key: it would be gone but for the extension
EXISTS_GROUP = 64  # keys asked for by one EXISTS

Progress = Callable[[str, int, int], None]
"""Called with the phase, the keys done and the keys expected."""


def scan(server: Server, db: int) -> Iterator[list[bytes]]:
    """Keys of a database, a batch at a time, without ours; some may come twice, never in one batch."""
    cursor = b"0"
    while True:
        request = pack(b"SCAN", cursor, b"COUNT", b"%d" % SCAN_COUNT)
        cursor, found = server.link.ask(db, request, 1)[0]
        keys = [key for key in dict.fromkeys(found) if not key.startswith(KEY_PREFIX)]
        if keys:
            yield keys
        if cursor == b"0":
            return


class Walk:
    """One verification.

    Args:
        sides: the servers.
        report: filled with what lasts.
        progress: told how far it is.
    """

    def __init__(self, sides: Sides, report: Report, progress: Progress) -> None:
        self.sides = sides
        self.report = report
        self.progress = progress
        self.comparer = Comparer(sides)
        self.on_source = States(sides.source, 0, sides.shift, sides.counters)
        self.on_target = States(sides.target, 1, NONE, sides.counters)
        self.candidates: dict[tuple[Pair, bytes], None] = {}
        self.candidate_bytes = 0
        self.done = 0
        self.total = 0

    def source_keys(self, pair: Pair) -> None:
        """Compare every key that the source has in a pair of databases."""
        if not self.sides.source.link.has(pair.source):
            return
        there = self.sides.target.link.has(pair.target)
        for keys in scan(self.sides.source, pair.source):
            if there:
                self._take(self.comparer.compare(pair, keys))
            else:
                for key in keys:
                    self.report.add(Finding(pair, key, Kind.MISSING))
            self.report.compared += len(keys)
            self._step("compare", len(keys))

    def target_keys(self, pair: Pair) -> None:
        """Find the keys that only the target has."""
        if not self.sides.target.link.has(pair.target):
            return
        there = self.sides.source.link.has(pair.source)
        for keys in scan(self.sides.target, pair.target):
            if there:
                self._take(Finding(pair, key, Kind.EXTRA) for key in self._absent(pair.source, keys))
            else:
                for key in keys:
                    self.report.add(Finding(pair, key, Kind.EXTRA))
            self._step("look for extra keys", len(keys))

    def _step(self, phase: str, keys: int) -> None:
        self.done += keys
        self.total = max(self.total, self.done)
        self.progress(phase, self.done, self.total)

    def _absent(self, db: int, keys: list[bytes]) -> list[bytes]:
        """Those of `keys` that the source lacks. One EXISTS counts many; short counts are asked again."""
        link = self.sides.source.link
        groups = [keys[i : i + EXISTS_GROUP] for i in range(0, len(keys), EXISTS_GROUP)]
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
        lasting = self.sides.patience.lasting(things, self.on_source.read, self.on_target.read)
        aspects: dict[Pair, dict[bytes, set[Aspect]]] = {}
        for thing in lasting:
            aspects.setdefault(thing.pair, {}).setdefault(thing.key, set()).add(thing.aspect)
        for pair, of_key in aspects.items():
            keys = list(of_key)
            for start in range(0, len(keys), SCAN_COUNT):
                self._convict(pair, {key: of_key[key] for key in keys[start : start + SCAN_COUNT]})

    def _convict(self, pair: Pair, aspects: dict[bytes, set[Aspect]]) -> None:
        """Name what differs in keys that differ for good."""
        found = self.comparer.compare(pair, list(aspects))
        expired = self._expired([finding.key for finding in found if finding.kind is Kind.EXTRA], pair)
        for finding in found:
            aspect = Aspect.EXPIRY if finding.kind is Kind.EXPIRY else Aspect.VALUE
            if not (finding.proven or aspect in aspects[finding.key]):
                continue
            if finding.key not in expired:
                self.report.add(finding)
            elif not self.sides.source.is_replica():
                self.report.add(finding._replace(field=EXPIRED))

    def _expired(self, keys: list[bytes], pair: Pair) -> set[bytes]:
        """Extra keys whose time has come on the source and has not yet on the target.

        A replica hides such a key, and the DEL comes only when its master deletes it: until then the target is
        right to hold it. A master deletes a key the moment that we ask for it, so that the DEL is overdue, or
        nobody follows the source any more.
        """
        if not keys:
            return set()
        now = self.sides.source.now_ms()
        moments = self.sides.target.expiries(pair.target, [arg(key) for key in keys])
        latest = now + self.sides.shift.ms
        return {key for key, moment in zip(keys, moments, strict=True) if 0 <= moment <= latest}
