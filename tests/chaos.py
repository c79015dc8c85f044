"""`make chaos`: live traffic, a kill at random every so often, and a comparison key by key at the end.

    python -m tests.chaos --kills 20 --every 5 --rate 20000 --gigabytes 5
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests import bank
from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, available, start
from tests.traffic import Traffic

SOURCE_CONFIG = {
    "repl-backlog-size": "512mb",
    # With gigabytes the fork and the transfer take longer than the default's 60 s over 64 MB; so for any replica.
    "client-output-buffer-limit": "replica 2gb 1gb 60",
}


def populate(source: Server, gigabytes: float) -> None:
    """So much data in database 2, in values of 200 B, 10 KB and 1 MB."""
    if not gigabytes:
        return
    client = source.client(db=2, socket_timeout=3600)
    for name, share, size in (("small", 0.5, 200), ("middle", 0.3, 10_000), ("large", 0.2, 1_000_000)):
        count = max(1, int(gigabytes * 1e9 * share / (size + 80)))
        client.execute_command("DEBUG", "POPULATE", count, name, size)


def order(kinds: list[str], rng: random.Random) -> Iterator[str]:
    """Each kind once, in random order, so that a campaign of as many kills leaves none out; then any."""
    first = list(kinds)
    rng.shuffle(first)
    yield from first
    while True:
        yield rng.choice(kinds)


class Chaos:
    """One campaign."""

    def __init__(self, source: Server, target: Server, state: Path, rng: random.Random) -> None:
        self.source, self.target, self.state, self.rng = source, target, state, rng
        self.ferry = self._start()
        self.kinds: dict[str, Callable[[], object]] = {
            "kill everything": self._kill_tree,
            "kill the stream job": lambda: self.ferry.kill("stream worker", child=True),
            "kill the stream worker": lambda: self.ferry.kill("stream worker"),
            "kill a loader": lambda: self.ferry.kill("load worker", child=True),
            "kill the load worker": lambda: self.ferry.kill("load worker"),
            "kill the broker": lambda: self.ferry.kill("broker"),
            "kill the scheduler": lambda: self.ferry.kill("scheduler"),
            "cut the source's connections": lambda: self._cut(self.source, "replica"),
            "cut the target's connections": lambda: self._cut(self.target, "normal"),
        }
        self.plan = order(list(self.kinds), rng)
        self.counts = dict.fromkeys(self.kinds, 0)

    def _start(self) -> Keyferry:
        return Keyferry(self.source.url(), self.target.url(), self.state).start()

    def hurt(self) -> str:
        """Do the next bad thing; its name."""
        what = next(self.plan)
        self.kinds[what]()
        self.counts[what] += 1
        return what

    def _kill_tree(self) -> None:
        self.ferry.kill_tree(self.rng)
        self.ferry = self._start()

    def _cut(self, server: Server, kind: str) -> None:
        server.client().execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def delay(self) -> str:
        lines = [line for line in self.ferry.lines[-5:] if line["delay_ms"] is not None]
        return f"{lines[-1]['delay_ms']:.0f} ms behind" if lines else "delay unknown"


def run(options: argparse.Namespace, source: Server, target: Server, state: Path) -> None:
    rng = random.Random(options.seed)
    fill(source.client(), 2000)
    populate(source, options.gigabytes)
    bank.open_accounts(source.client())
    print(f"source: {source.client().info('memory')['used_memory_human']}, seed {options.seed}", flush=True)
    chaos = Chaos(source, target, state, rng)
    began = time.monotonic()
    try:
        with Traffic(source, clients=4, rate=options.rate, transfers=True, seed=options.seed) as traffic:
            for number in range(options.kills):
                time.sleep(rng.uniform(0.5, 1.5) * options.every)
                at = time.monotonic() - began
                print(f"{at:6.0f} s  {number + 1:3}: {chaos.hurt()}; before: {chaos.delay()}", flush=True)
            time.sleep(options.every)
        print(f"{traffic.written:,} writes in {time.monotonic() - began:.0f} s; catching up", flush=True)
        chaos.ferry.settle(source, timeout=1800)
        seconds = time.monotonic() - began
        print(f"in sync after {seconds:.0f} s, {snapshots(source)} snapshots; comparing", flush=True)
        equal(source, target, timeout_s=3600)
        assert bank.total(target.client()) == bank.TOTAL
        print("equal, key by key, after:", flush=True)
        for what, times in chaos.counts.items():
            print(f"{times:6} x {what}", flush=True)
    finally:
        chaos.ferry.kill_tree()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos", description="kills under traffic, then a comparison")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two kills, on average")
    parser.add_argument("--rate", type=int, default=3000, help="writes a second, 0: as many as it takes")
    parser.add_argument("--gigabytes", type=float, default=0.1, help="of data before the start")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--source", default="redis-7.0", help=f"of: {', '.join(available())}")
    parser.add_argument("--target", default=None, help="like the source, if left out")
    options = parser.parse_args()
    options.seed = options.seed if options.seed is not None else random.randrange(10**6)
    with (
        start(options.source, config=SOURCE_CONFIG) as source,
        start(options.target or options.source) as target,
        tempfile.TemporaryDirectory(prefix="keyferry-chaos-") as place,
    ):
        run(options, source, target, Path(place) / "state")


if __name__ == "__main__":
    main()
