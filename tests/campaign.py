"""What campaigns of faults share (`tests.chaos`, `tests.cuts`): rounds of a new sync each, faults in every phase of it,
the sum of all accounts read on the target all the while, and a comparison key by key at the end of each round.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from tests import bank
from tests.compare import compare
from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.judge import equal, snapshots, verified
from tests.scoped import alone, scope_of
from tests.servers import Server, available, start
from tests.slow import slowed
from tests.traffic import Traffic
from tests.waiting import until
from workers.expiry import HOLD

SOURCE_CONFIG = {
    "repl-backlog-size": "512mb",
    # With gigabytes the fork and the transfer take longer than the default's 60 s over 64 MB; so for any replica.
    "client-output-buffer-limit": "replica 2gb 1gb 60",
}
ROUND = 60  # faults of one sync, at most
FULL, BEHIND, STEADY = "full sync", "catch-up", "steady state"
SLEEPS = 500_000  # in a snapshot, at most, of about 0.1 ms
BEHIND_MS = 1000  # from so late on it catches up
LONG_S = 90.0  # that an act may last, if faults let no sync come on


def populate(source: Server, gigabytes: float) -> None:
    """So much data in database 2, in values of 200 B, 10 KB and 1 MB."""
    if not gigabytes:
        return
    client = source.client(db=2, socket_timeout=3600)
    for name, share, size in (("small", 0.5, 200), ("middle", 0.3, 10_000), ("large", 0.2, 1_000_000)):
        count = max(1, int(gigabytes * 1e9 * share / (size + 80)))
        client.execute_command("DEBUG", "POPULATE", count, name, size)


def slow_snapshots(source: Server) -> None:
    """Let snapshots last long enough for something to happen, by a minute at most."""
    client = source.client()
    keys = sum(int(database["keys"]) for database in client.info("keyspace").values())
    one_in = -(-keys // SLEEPS)
    client.config_set("rdb-key-save-delay", 50 if one_in == 1 else -one_in)  # µs; negative: 1 µs at one key in so many


ALL_ON = """
databases = { "0" = 0, "1" = 4, "2" = 2, "3" = 3, "5" = 5 }
instance_class = "2xlarge"
[filter.db.0]
block_prefixes = ["t:list:1", "t:set:2", "t:zset:3", "s:"]
[filter.db.1]
allow_prefixes = ["t:"]
block_prefixes = ["t:hash:1", "t:str:2", "t:list:3"]
[throttle.full]
target_rps = 50000
mb_per_s = 100
[throttle.incremental]
rps = 30000
mb_per_s = 100
"""


TRANSFORM = """
[transform]
lua = '''
function transform(db, argv, about)
  if about.key and about.key:find("[02468]$") then return argv end
end
'''
"""
"""Half of the commands come back from a script, as they are. Then each expiry carries the hold up to the cut-over."""


class Campaign(ABC):
    """Faults of one kind or another, in rounds.

    Args:
        source, target: both ends.
        place: for the state directories.
        options: as `options` gives them.
    """

    def __init__(self, source: Server, target: Server, place: Path, options: argparse.Namespace) -> None:
        self.source, self.target, self.place, self.options = source, target, place, options
        self.rng = random.Random(options.seed)
        self.counts: Counter[tuple[str, str]] = Counter()  # by fault and phase
        self.round = 0
        self.written = 0
        self._phase = FULL
        self.config = ALL_ON if options.all_on or options.transform else ""  # settings that say what is in scope, TOML
        self.transforms = options.transform
        self.settings = self.config + (TRANSFORM if options.transform else "")
        self.began = time.monotonic()
        self.ferry: Keyferry

    # -- what differs

    @abstractmethod
    def begin(self, state: Path) -> Keyferry:
        """Start the command on a state directory."""

    @abstractmethod
    def hurt(self) -> str | None:
        """Do something bad; its name, or None if there was nothing to do it to."""

    # -- rounds

    def run(self) -> None:
        """All of them, and what came of it on stdout."""
        left = self.options.faults
        with bank.Sums(self.target) as sums:
            while left > 0:
                left -= self._round(min(ROUND, left))
                if not self.transforms:
                    verified(self.source, self.target, timeout_s=3600, config=self.config)
                self.ferry.kill_tree()
                with alone(self.source, scope_of(self.config)) if self.config else nullcontext():
                    self._compare()
                assert bank.total(self.target.client()) == bank.TOTAL
                print(f"{self._at()}: round {self.round} is equal, key by key", flush=True)
        self._tell(sums)
        assert not sums.wrong, f"transactions were seen in parts: {sums.wrong}"

    def _compare(self) -> None:
        if not self.transforms:
            equal(self.source, self.target, timeout_s=3600)
            return
        found = compare(self.source.url(), self.target.url(), shift_ms=HOLD)
        wrong = [one for one in found if one.kind != "field-expiry"]
        assert not wrong, "\n".join(map(str, wrong[:15]))

    def _round(self, faults: int) -> int:
        """One sync, with so many faults at most; how many there were."""
        self.round += 1
        self.target.client(socket_timeout=600).flushall()
        self.ferry = self.begin(self.place / f"state-{self.round}")
        self._phase = FULL
        seed = self.options.seed + self.round
        before = sum(self.counts.values())
        with Traffic(self.source, clients=4, rate=self.options.rate, transfers=True, seed=seed) as traffic:
            with slowed(self.target):
                self._act(faults // 3, FULL)
            until(lambda: self.phase() != FULL, "the snapshot is loaded", 600)
            with slowed(self.target, 0.02):  # slower than the traffic: it falls behind
                self._act(faults // 3)
            until(lambda: self.phase() == STEADY, "it has caught up", 600)
            self._act(faults - (sum(self.counts.values()) - before))
        self.written += traffic.written
        self.settle()
        return sum(self.counts.values()) - before

    def _act(self, faults: int, only: str | None = None) -> None:
        """So many faults; with `only`, not beyond that phase."""
        by = time.monotonic() + max(LONG_S, 3 * faults * self.options.every)
        done = 0
        while done < faults and time.monotonic() < by:
            time.sleep(self.rng.uniform(0.5, 1.5) * self.options.every)
            phase = self.phase()
            if only not in (None, phase):
                return
            what = self.hurt()
            assert self.ferry.alive, self.ferry.report()
            if what is not None:
                done += 1
                self.counts[what, phase] += 1
                print(f"{self._at()}  {sum(self.counts.values()):4}: {what}, in {phase}", flush=True)

    def settle(self) -> None:
        """All that was written is on the target."""
        self.ferry.settle(self.source, timeout=1800)

    def phase(self) -> str:
        """Where the sync stands. What has just been started does not know yet what its predecessor had reached."""
        if self.ferry.lines:
            line = self.ferry.last
            if line["applied_offset"] is not None or self._phase != FULL:
                late = line["delay_ms"] is None or line["delay_ms"] >= BEHIND_MS
                self._phase = BEHIND if late else STEADY
        return self._phase

    def _at(self) -> str:
        return f"{time.monotonic() - self.began:6.0f} s"

    def _tell(self, sums: bank.Sums) -> None:
        print(f"{self.written:,} writes, {snapshots(self.source)} snapshots, {self.round} syncs; all equal in the end")
        print(f"{sums.right:,} sums over all accounts were right, {sum(sums.wrong.values())} wrong")
        print(f"{sum(self.counts.values())} faults:")
        for what in sorted({what for what, _ in self.counts}):
            phases = {phase: times for (other, phase), times in sorted(self.counts.items()) if other == what}
            parts = ", ".join(f"{times} in {phase}" for phase, times in phases.items())
            print(f"{sum(phases.values()):6} x {what}: {parts}", flush=True)


def options(prog: str, faults: str, *, every: float, gigabytes: float) -> argparse.Namespace:
    """The command line; `faults` is the name of the option that says how many."""
    parser = argparse.ArgumentParser(prog=prog, description="faults under traffic, and comparisons")
    parser.add_argument(f"--{faults}", dest="faults", type=int, default=20)
    parser.add_argument("--every", type=float, default=every, help="seconds between two, on average")
    parser.add_argument("--rate", type=int, default=3000, help="writes a second, 0: as many as it takes")
    parser.add_argument("--gigabytes", type=float, default=gigabytes, help="of data before the start")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--source", default="redis-7.0", help=f"of: {', '.join(available())}")
    parser.add_argument("--target", default=None, help="like the source, if left out")
    parser.add_argument("--all-on", action="store_true", help="with a mapping, filters and throttles")
    parser.add_argument("--transform", action="store_true", help="with those and a transform")
    given = parser.parse_args()
    given.seed = given.seed if given.seed is not None else random.randrange(10**6)
    return given


def run(kind: type[Campaign], given: argparse.Namespace) -> None:
    """One campaign on servers of its own."""
    place = Path(tempfile.mkdtemp(prefix="keyferry-campaign-"))
    with start(given.source, config=SOURCE_CONFIG) as source, start(given.target or given.source) as target:
        fill(source.client(), 2000)
        populate(source, given.gigabytes)
        bank.open_accounts(source.client())
        slow_snapshots(source)
        print(f"source: {source.client().info('memory')['used_memory_human']}, seed {given.seed}", flush=True)
        campaign = kind(source, target, place, given)
        try:
            campaign.run()
        except AssertionError:
            print(campaign.ferry.report(), campaign.ferry.rows("SELECT at, kind, text FROM event"), sep="\n")
            print(f"kept to look at: {place}")
            raise
        finally:
            campaign.ferry.kill_tree()
    shutil.rmtree(place)
