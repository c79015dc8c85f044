"""`make cuts`: connections are cut at a random byte, on either side and in either direction, in every phase of a sync.

    python -m tests.cuts --cuts 1000 --every 0.4
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tests import campaign
from tests.campaign import Campaign
from tests.proxy import Connection, Proxy
from tests.run_keyferry import Keyferry
from tests.servers import Server

SOON_S = 1.5  # a connection on which so few bytes come is cut between two of them
LARGEST = 5.5  # decimal logarithm of the bytes that a doomed connection may still carry


class Cuts(Campaign):
    """Both ends are reached through proxies alone."""

    def __init__(self, source: Server, target: Server, place: Path, options: argparse.Namespace) -> None:
        super().__init__(source, target, place, options)
        self.proxies = {"source": Proxy(source), "target": Proxy(target)}

    def begin(self, state: Path) -> Keyferry:
        source, target = (self.proxies[side].url() for side in ("source", "target"))
        return Keyferry(source, target, state, config=self.settings or None).start()

    def hurt(self) -> str | None:
        side = self.rng.choice(sorted(self.proxies))
        towards = self.rng.choice(("server", "us"))
        living = [connection for connection in self.proxies[side].connections if connection.alive]
        if not living or not self.ferry.lines or self.ferry.last["phase"] == "prechecking":
            return None  # a cut is an answer then: it cannot be reached
        connection = self.rng.choice(living)
        where = self._cut(connection, towards)
        return f"cut {'from' if towards == 'us' else 'to'} the {side}, {where}"

    def _cut(self, connection: Connection, towards: str) -> str:
        connection.doom(towards, int(10 ** self.rng.uniform(0.0, LARGEST)))
        by = time.monotonic() + SOON_S
        while connection.alive and time.monotonic() < by:
            time.sleep(0.01)
        if connection.cut:
            return "in mid-data"
        connection.close()
        return "while it was quiet"


if __name__ == "__main__":
    campaign.run(Cuts, campaign.options("make cuts", "cuts", every=0.4, gigabytes=0.02))
