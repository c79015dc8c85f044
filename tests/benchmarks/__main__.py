"""`python -m tests.benchmarks`: full sync, live traffic, drain, delay; native replication and Keyferry in turns."""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import alone, huge
from tests.benchmarks.delay import delays_ms, p99
from tests.benchmarks.load import Native, fill_mixed, offset, wait_no_backlog, wait_quiet
from tests.benchmarks.ours import Ours
from tests.benchmarks.storm import start_storm
from tests.benchmarks.usage import Usage
from tests.servers import Server, available, start

SOURCE_CONFIG = {
    "client-output-buffer-limit": "replica 0 0 0",  # the drain queues everything in the source
    "repl-backlog-size": "64mb",
    "enable-debug-command": "yes",
}
TARGET_CONFIG = {"repl-backlog-ttl": "1"}  # a target is no replica: it is not to keep the backlog of one
POLL_S = 0.01
DELAY_S = 15.0
RATES = (1000, 20_000)
ALL_BY_PREFIX = '[filter]\nallow_prefixes = ["storm:", "counter:", "list:", "hash:", "stream:", "zset:"]\n'
PARTS = ("full", "converted", "framing", "filter", "transform", "live", "drain", "mix", "delay", "huge", "idle")


@dataclass
class Result:
    """Seconds of all rounds, and what we used in the last."""

    name: str
    reference: str  # what the ratio is to
    must: float
    aim: float
    base: list[float] = field(default_factory=list)
    native: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)  # live: how long the writer itself took while we followed
    usage: Usage | None = None

    def line(self) -> str:
        ours, native = statistics.median(self.ours), statistics.median(self.native)
        base = statistics.median(self.base)
        assert self.usage
        largest = max(self.usage.rss_mb.values(), default=0.0)
        own = f"   to the writer's own time in that run {median_ratio(self.ours, self.own):.2f}" if self.own else ""
        return (
            f"{self.name:<30} ours {ours:7.2f} s   native {native:7.2f} s   {self.reference} {base:7.2f} s   "
            f"ratio {median_ratio(self.ours, self.base):5.2f} (must {self.must}, aim {self.aim})   "
            f"to native {median_ratio(self.ours, self.native):5.2f}{own}\n"
            f"{'':<30} our CPU {self.usage.cpu_s:6.1f} s   memory at peak: {self.usage.pss_mb:.0f} MB, "
            f"{largest:.0f} MB the largest process"
        )


class Bench:
    """One source and one target; every side of a comparison sees the same."""

    def __init__(self, source: Server, target: Server, place: Path, options: argparse.Namespace) -> None:
        self.source, self.target, self.place, self.options = source, target, place, options
        self.numbers = itertools.count()

    def ours(self, target: Server | None = None, config: str | None = None) -> Ours:
        wait_quiet(self.source)
        wait_no_backlog(self.target)
        state = self.place / f"state-{next(self.numbers)}"
        return Ours(self.source, target or self.target, state, self.options.load_workers, config)

    def native(self) -> Native:
        wait_quiet(self.source)
        return Native(self.source, self.target)

    def rounds(self) -> Iterator[int]:
        yield from range(self.options.rounds)

    def full(self, older: Server | None = None) -> Result:
        """With `older`: ours goes there, and what it does not read is converted."""
        name = "full sync" if older is None else f"converted for {older.kind}"
        must, aim = (1.5, 1.25) if older is None else (2.5, 2.0)
        result = Result(f"{name}, {self.options.keys:,} keys", "native", must, aim)
        for _round in self.rounds():
            with native_run(self.native()) as native:
                result.native.append(seconds(native.follow))
            ours = self.ours(older)
            result.ours.append(seconds(ours.follow))
            result.usage = ours.usage
            self.check_counts(older or self.target)
            ours.leave()
        result.base = result.native
        return result

    def live(self, kind: str) -> Result:
        writes = self.options.writes
        result = Result(f"live, {writes:,} writes ({kind})", "writes alone", 1.3, 1.1)
        for _round in self.rounds():
            result.base.append(seconds(lambda: start_storm(self.source, kind, writes).wait()))
            with native_run(self.native()) as native:
                native.follow()
                result.native.append(seconds(lambda n=native: self.write_and_wait(n, kind)))
            ours = self.ours()
            ours.follow()
            ours.in_sync()
            ours.usage.mark()
            result.ours.append(seconds(lambda o=ours, r=result: r.own.append(self.write_and_wait(o, kind))))
            result.usage = ours.usage
            ours.leave()
        return result

    def drain(self, kind: str) -> Result:
        writes = self.options.writes
        result = Result(f"drain, {writes:,} queued ({kind})", "native", 1.3, 1.15)
        for _round in self.rounds():
            with native_run(self.native()) as native:
                native.follow()
                self.target.pause()
                start_storm(self.source, kind, writes).wait()
                self.target.resume()
                result.native.append(seconds(lambda n=native: self.wait_applied(n)))
            result.ours.append(self.drained(kind, result))
        result.base = result.native
        return result

    def drained(self, kind: str, result: Result, config: str | None = None) -> float:
        """Seconds in which ours brings what had queued up while it was stopped."""
        ours = self.ours(config=config)
        ours.follow()
        ours.in_sync()
        ours.applied()
        ours.usage.mark()
        ours.suspend()
        start_storm(self.source, kind, self.options.writes).wait()
        ours.resume()
        took = seconds(lambda: self.wait_applied(ours))
        result.usage = ours.usage
        ours.leave()
        return took

    def filtered(self, kind: str) -> Result:
        """A drain with a filter that takes all keys, and one without, which is the reference.

        The first drain fills the servers, which are faster while they are empty, and does not count; then each side
        begins in turns, for lists grow from drain to drain.
        """
        result = Result(f"drain under a filter ({kind})", "without", 1.1, 1.0)
        self.drained(kind, result)
        sides = [(result.base, None), (result.ours, ALL_BY_PREFIX)]
        for number in self.rounds():
            for times, config in sides[:: -1 if number % 2 else 1]:
                times.append(self.drained(kind, result, config))
        result.native = result.base
        return result

    def delay(self, rate: int) -> str:
        """p99 of the delay at so many writes a second."""
        found: dict[str, list[float]] = {"native": [], "ours": []}
        for _round in self.rounds():
            with native_run(self.native()) as native:
                native.follow()
                found["native"].append(p99(delays_ms(self.source, self.target, rate, DELAY_S)))
            ours = self.ours()
            ours.follow()
            ours.in_sync()
            found["ours"].append(p99(delays_ms(self.source, self.target, rate, DELAY_S)))
            ours.leave()
        ours_ms, native_ms = statistics.median(found["ours"]), statistics.median(found["native"])
        head = f"delay p99, {rate:,} writes/s"
        return (
            f"{head:<30} ours {ours_ms:7.2f} ms  native {native_ms:7.2f} ms"
            f"   {ours_ms - native_ms:+.2f} ms (must +5, aim +2)"
        )

    def write_and_wait(self, side: Native | Ours, kind: str) -> float:
        """Write, and wait until it is applied; the seconds that the writing alone took."""
        own = seconds(lambda: start_storm(self.source, kind, self.options.writes).wait())
        self.wait_applied(side)
        return own

    def wait_applied(self, side: Native | Ours) -> None:
        """Until the target has applied all that the source has written, and no key less."""
        end = offset(self.source)
        while side.applied() < end:
            time.sleep(POLL_S)

    def check_counts(self, target: Server) -> None:
        here, there = self.source.client().dbsize(), target.client().dbsize()
        assert here <= there < here + 10, f"{here} keys on the source, {there} on the target"


class native_run:
    """The replica becomes a master again, and empty, at the end of the block."""

    def __init__(self, native: Native) -> None:
        self.native = native

    def __enter__(self) -> Native:
        return self.native

    def __exit__(self, *_error: object) -> None:
        self.native.leave()


def median_ratio(ours: list[float], other: list[float]) -> float:
    """Of the rounds' own ratios: what slows a machine down for minutes slows both sides of a round."""
    return statistics.median(mine / theirs for mine, theirs in zip(ours, other, strict=True))


def seconds(work: object) -> float:
    assert callable(work)
    began = time.monotonic()
    work()
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--keys", type=int, default=4_000_000, help="of the full sync")
    parser.add_argument("--writes", type=int, default=2_000_000, help="of the live and the drain part")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side; the median counts")
    parser.add_argument("--kind", default="redis-7.0", help=f"of server: {', '.join(available())}")
    parser.add_argument("--older", default="redis-6.2", help="kind of the target for which values are converted")
    parser.add_argument("--load-workers", type=int, default=None)
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts alone; may be repeated")
    options = parser.parse_args()
    with (
        start(options.kind, config=SOURCE_CONFIG) as source,
        start(options.kind, config=TARGET_CONFIG) as target,
        tempfile.TemporaryDirectory(prefix="keyferry-bench-") as place,
    ):
        for line in lines(Bench(source, target, Path(place), options), options.only or PARTS):
            print(line, flush=True)


def lines(bench: Bench, parts: Collection[str]) -> Iterator[str]:
    """The parts asked for, in order."""
    source, options = bench.source, bench.options
    if not {"full", "converted", "framing"}.isdisjoint(parts):
        fill_mixed(source, options.keys)
        if "framing" in parts:
            yield alone.framing(source, bench.place, options.keys)
        if "full" in parts:
            yield bench.full().line()
        if "converted" in parts:
            with start(options.older, config=TARGET_CONFIG) as older:
                yield bench.full(older).line()
        source.client(socket_timeout=600).flushall()
    if "live" in parts:
        yield bench.live("set").line()
    if "drain" in parts:
        yield bench.drain("set").line()
    source.client(socket_timeout=600).flushall()
    if "mix" in parts:
        yield bench.live("mix").line()
        yield bench.drain("mix").line()
        source.client(socket_timeout=600).flushall()
    if "delay" in parts:
        yield from map(bench.delay, RATES)
    if "huge" in parts:
        huge.fill(source)
        yield from huge.huge(source, bench.target, bench.ours)
        source.client(socket_timeout=600).flushall()
    if "filter" in parts:
        yield alone.filtering()
        yield bench.filtered("mix").line()
        source.client(socket_timeout=600).flushall()
    if "transform" in parts:
        yield alone.transforming()
    if "idle" in parts:
        yield alone.idle(bench.ours())


if __name__ == "__main__":
    main()
