"""Nobody who reads the target ever sees half a transaction, whatever is killed meanwhile."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
import redis

from tests import bank
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal
from tests.servers import Server, StartServer
from tests.traffic import Traffic


class Reader(threading.Thread):
    """Adds up the accounts on a server, again and again. While some are missing the sum is None."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.client = server.client()
        self.sums: Counter[int | None] = Counter()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            self.sums[bank.total(self.client)] += 1

    def end(self) -> Counter[int | None]:
        self.ended.set()
        self.join(30)
        return self.sums


@pytest.mark.parametrize("kind", ["redis-6.2", "redis-7.0", "valkey-9.1"])
def test_the_sum_is_constant(kind: str, server: StartServer, ferry: StartFerry) -> None:
    source, target = server(kind), server(kind)
    bank.open_accounts(source.client())
    reader = Reader(target)
    reader.start()

    with Traffic(source, clients=4, rate=3000, transfers=True):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(2)
        run.kill("stream worker", child=True)
        time.sleep(3)
    run.settle(source)
    sums = reader.end()

    assert {total for total in sums if total is not None} == {bank.TOTAL}
    assert sums[bank.TOTAL] > 100
    assert reader_finds_halves(target)
    equal(source, target)


def reader_finds_halves(target: Server) -> bool:
    """The reader can tell: a transfer of one half alone changes the sum. Undone at once."""
    client: redis.Redis = target.client()
    client.decrby(bank.NAMES[0], 1)
    seen = bank.total(client)
    client.incrby(bank.NAMES[0], 1)
    return seen == bank.TOTAL - 1
