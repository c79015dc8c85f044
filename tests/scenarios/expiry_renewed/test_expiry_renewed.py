"""Keys whose short expiry is renewed again and again, while the load takes longer than any of them lives."""

from __future__ import annotations

import threading
import time

import pytest

from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal
from tests.servers import Server, StartServer
from tests.slow import RAW, bulk, slowed

KEYS = 400
LIFE_MS = 3000


class Renewer(threading.Thread):
    """Gives every key, and every field of a hash, another `LIFE_MS`, three times in that time."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.client = server.client(db=4)
        self.fields = server.kind == "valkey-9.1"
        self.ended = threading.Event()
        self.rounds = 0
        self._write(first=True)

    def _write(self, *, first: bool = False) -> None:
        pipe = self.client.pipeline(transaction=False)
        for i in range(KEYS):
            if first:
                pipe.execute_command("SET", f"session:{i}", i, "PX", LIFE_MS)
            else:
                pipe.execute_command("PEXPIRE", f"session:{i}", LIFE_MS)
            if self.fields and first:
                pipe.execute_command("HSETEX", "seats", "PX", LIFE_MS, "FIELDS", 1, f"f{i}", i)
            elif self.fields:
                pipe.execute_command("HPEXPIRE", "seats", LIFE_MS, "FIELDS", 1, f"f{i}")
        pipe.execute()

    def run(self) -> None:
        while not self.ended.wait(LIFE_MS / 3000):
            self._write()
            self.rounds += 1

    def end(self) -> None:
        self.ended.set()
        self.join(30)
        self.check()

    def check(self) -> None:
        assert self.client.dbsize() == KEYS + self.fields, "on a machine so slow the source itself lost keys"


@pytest.mark.parametrize("kind", ["redis-6.2", "redis-7.0", "valkey-9.1"])
def test_none_is_lost(kind: str, server: StartServer, ferry: StartFerry) -> None:
    source, target = server(kind, config=RAW), server(kind)
    bulk(source, 40_000)
    renewer = Renewer(source)
    renewer.start()

    with slowed(target):
        began = time.monotonic()
        run = ferry(source, target)
        run.wait_for(lambda line: line["keys_done"], what="a first chunk's keys")
        time.sleep(4 * LIFE_MS / 1000)
    run.wait_phase("synchronizing", timeout=90)
    assert time.monotonic() - began > 3 * LIFE_MS / 1000

    run.wait_in_sync()
    reader = target.client(db=4)
    for _look in range(20):
        there = reader.dbsize()
        renewer.check()
        assert there >= KEYS
        time.sleep(0.1)
    renewer.end()
    source.client(db=4).expire("session:0", 3600)
    assert renewer.rounds > 8

    run.settle(source)
    equal(source, target)
