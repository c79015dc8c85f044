"""`make chaos`: processes are killed at random under live traffic, in full sync, in catch-up and in step.

    python -m tests.chaos --kills 1000 --every 2 --rate 20000 --gigabytes 5
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests import campaign
from tests.campaign import Campaign
from tests.run_keyferry import Keyferry
from tests.servers import Server


def order(kinds: list[str], rng: random.Random) -> Iterator[str]:
    """Each kind once, in random order, so that a campaign of as many kills leaves none out; then any."""
    first = list(kinds)
    rng.shuffle(first)
    yield from first
    while True:
        yield rng.choice(kinds)


class Chaos(Campaign):
    """Kills, and all connections of a server cut at once."""

    def __init__(self, source: Server, target: Server, place: Path, options: argparse.Namespace) -> None:
        super().__init__(source, target, place, options)
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
        self.plan = order(list(self.kinds), self.rng)

    def begin(self, state: Path) -> Keyferry:
        return Keyferry(self.source.url(), self.target.url(), state, config=self.settings or None).start()

    def hurt(self) -> str | None:
        what = next(self.plan)
        try:
            self.kinds[what]()
        except psutil.NoSuchProcess:
            return None  # it had just ended by an earlier fault
        return what

    def _kill_tree(self) -> None:
        self.ferry.kill_tree(self.rng)
        self.ferry = self.begin(self.ferry.state)

    def _cut(self, server: Server, kind: str) -> None:
        server.client().execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


if __name__ == "__main__":
    campaign.run(Chaos, campaign.options("make chaos", "kills", every=2.0, gigabytes=0.1))
