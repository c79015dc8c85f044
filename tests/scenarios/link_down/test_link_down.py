"""The link is down, nothing of ours runs, or the target stands still, for longer than the extension: what the target
has expired by itself meanwhile, and the source has renewed, is as it is at the source in the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.proxy import Proxy
from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.waiting import until
from workers.suspects import MOST_DOUBTED

EXTEND_S = 2
CONFIG = f"extend_expiry_s = {EXTEND_S}"
KEYS = 60
LIFE_MS = 3000
AWAY_S = 8.0
"""Longer than a key lives that nobody renews, the extension included."""


class Renewer(threading.Thread):
    """Keys that live for `LIFE_MS`, written to and renewed three times in that time."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.client = server.client(db=4)
        self.fields = server.kind == "valkey-9.1"
        self.ended = threading.Event()
        self.rounds = 0
        self._write(LIFE_MS)

    def _write(self, life_ms: int) -> None:
        with self.client.pipeline(transaction=False) as pipe:
            for i in range(KEYS):
                for name, command in self._commands(i):
                    pipe.execute_command(*command)
                    if name is not None:
                        pipe.execute_command("PEXPIRE", name, life_ms)
                if self.fields:
                    pipe.execute_command("HINCRBY", "seats", f"f{i}", 1)
                    pipe.execute_command("HPEXPIRE", "seats", life_ms, "FIELDS", 1, f"f{i}")
            pipe.execute()

    def _commands(self, i: int) -> list[tuple[str | None, tuple[Any, ...]]]:
        copied = f"copy:{i}:{self.rounds % 2}", f"copy:{i}:{(self.rounds + 1) % 2}"
        return [
            (f"count:{i}", ("INCR", f"count:{i}")),
            (f"log:{i}", ("APPEND", f"log:{i}", f"{self.rounds},")),
            (f"seen:{i}", ("HSET", f"seen:{i}", f"r{self.rounds}", i)),
            (f"list:{i}", ("RPUSH", f"list:{i}", self.rounds)),
            (f"once:{i}", ("SET", f"once:{i}", i, "PX", LIFE_MS) if not self.rounds else ("TOUCH", f"once:{i}")),
            (None, ("INCR", f"fresh:{i}:{self.rounds}")),
            (copied[0], ("APPEND", copied[0], i)),
            (copied[1], ("COPY", *copied, "REPLACE")),  # of a key that is missing it is not refused, as RENAME is
            (None, ("SUNIONSTORE", f"union:{i}", f"union:{i}", f"set:{i}")),
            (f"set:{i}", ("SADD", f"set:{i}", self.rounds)),
        ]

    def run(self) -> None:
        while not self.ended.wait(LIFE_MS / 3000):
            self.rounds += 1
            self._write(LIFE_MS)

    def end(self) -> None:
        """What is left lives on."""
        self.ended.set()
        self.join(30)
        self.rounds += 1
        self._write(3_600_000)
        counts = [int(self.client.get(f"count:{i}") or 0) for i in range(KEYS)]
        assert min(counts) == self.rounds + 1, "on a machine so slow the source itself lost keys"


def link(run: Keyferry, proxy: Proxy, target: Server, again: Callable[[], Keyferry]) -> Keyferry:
    proxy.life = lambda: 0
    proxy.end_all()
    time.sleep(AWAY_S)
    proxy.life = lambda: None
    return run


def processes(run: Keyferry, proxy: Proxy, target: Server, again: Callable[[], Keyferry]) -> Keyferry:
    run.kill_tree()
    time.sleep(AWAY_S)
    return again()


def standing(run: Keyferry, proxy: Proxy, target: Server, again: Callable[[], Keyferry]) -> Keyferry:
    """With windows of ours in its buffers, which it executes when it wakes up."""
    target.pause()
    time.sleep(AWAY_S)
    target.resume()
    return run


def mended(run: Keyferry, proxy: Proxy, target: Server, again: Callable[[], Keyferry]) -> Keyferry:
    """Killed once more while it mends what it finds."""
    run.kill_tree()
    time.sleep(AWAY_S)
    for wait_s in (1.5, 2.5, 3.5):
        run = again()
        time.sleep(wait_s)
        run.kill_tree()
    return again()


@contextmanager
def renewing(source: Server) -> Any:
    renewer = Renewer(source)
    renewer.start()
    try:
        yield renewer
    finally:
        renewer.ended.set()


LONG, RARE = pytest.mark.long, [pytest.mark.long, pytest.mark.rare]


@pytest.mark.parametrize(
    ("kind", "away"),
    [
        ("redis-7.0", processes),
        pytest.param("redis-7.0", link, marks=LONG),
        pytest.param("redis-7.0", standing, marks=LONG),
        pytest.param("redis-7.0", mended, marks=LONG),
        pytest.param("redis-6.2", link, marks=LONG),
        pytest.param("redis-6.2", mended, marks=RARE),
        pytest.param("redis-6.2", standing, marks=RARE),
        pytest.param("valkey-9.1", processes, marks=LONG),
        pytest.param("valkey-9.1", standing, marks=RARE),
        pytest.param("valkey-9.1", mended, marks=RARE),
    ],
)
def test_for_longer_than_the_extension(
    kind: str, away: Any, server: StartServer, ferry: StartFerry, tmp_path: Path
) -> None:
    source, target = server(kind), server(kind)
    with Proxy(source) as proxy, renewing(source) as renewer:

        def again() -> Keyferry:
            return ferry(proxy, target, config=CONFIG)

        run = again()
        run.wait_in_sync()
        time.sleep(2.0)
        run = away(run, proxy, target, again)
        run.wait_in_sync(90)
        time.sleep(2.0)
        renewer.end()
        run.settle(source, 90)
        equal(source, target, extended_ms=EXTEND_S * 1000)
        assert snapshots(source) == 1


@pytest.mark.long
@pytest.mark.rare
def test_more_keys_than_are_looked_at(server: StartServer, ferry: StartFerry) -> None:
    """A full sync in place costs less."""
    many, source, target = MOST_DOUBTED + 1000, server("redis-7.0"), server("redis-7.0")
    life_ms = 45_000

    def every(*command: Any) -> None:
        with source.client() as client, client.pipeline(transaction=False) as pipe:
            for i in range(many):
                pipe.execute_command(command[0], f"n:{i}", *command[1:])
            pipe.execute()

    run = ferry(source, target, config="extend_expiry_s = 1")
    run.wait_in_sync()
    every("SET", 1, "PX", life_ms)
    run.settle(source)
    run.kill_tree()
    assert source.client().dbsize() == many, "on a machine so slow the source itself lost keys"
    every("PEXPIRE", 3_600_000)
    every("INCR")
    until(lambda: not target.client().exists("n:0", f"n:{many - 1}"), "expired by the target")
    run = ferry(source, target, config="extend_expiry_s = 1")
    run.settle(source, timeout=120)
    assert snapshots(source) == 2
    equal(source, target, extended_ms=1000)
