"""`keyferry verify --repair` while a task follows and clients write: what somebody planted on the target is named and
mended, each key at one place of the stream, so that no write that was on its way is lost or counted twice."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Self

import pytest

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until

DB = 5
COUNTERS = [f"r:count:{n}" for n in range(40)]
PLANTED = {"r:text", "r:gone", "r:hash", "r:extra", "r:time", *COUNTERS[:20]}


class Increments(threading.Thread):
    """A client that counts in turn, and knows how far it is."""

    def __init__(self, source: Server) -> None:
        super().__init__()
        self._client, self._over = source.client(db=DB), threading.Event()
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        while not self._over.wait(0.0005):
            for counter in COUNTERS:
                self._client.incr(counter)
                self.counts[counter] += 1

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def prepare(source: Server) -> None:
    with source.client(db=DB) as client:
        client.mset({"r:text": "ours", "r:gone": "ours"})
        client.hset("r:hash", "field", "ours")
        client.set("r:time", "ours", pxat=4_000_000_000_000)


def plant(target: Server) -> None:
    with target.client(db=DB) as client:
        client.set("r:text", "theirs")
        client.delete("r:gone", "r:hash")
        client.rpush("r:hash", "theirs")
        client.set("r:extra", "theirs")
        client.persist("r:time")
        for counter in COUNTERS[:10]:
            client.incrby(counter, 1_000_000)
        client.delete(*COUNTERS[10:20])


def repair(source: Server, target: Server, report: Path) -> tuple[int, dict[str, object]]:
    command = [sys.executable, "-m", "sync_tasks.cli.main", "verify", source.url(), target.url(), "--json", "--repair"]
    done = subprocess.run([*command, "--report", str(report)], capture_output=True, text=True, timeout=180)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["redis-6.2", "valkey-9.1"])
def test_under_traffic(kind: str, server: StartServer, ferry: StartFerry, tmp_path: Path) -> None:
    source, target = server(kind), server(kind)
    fill(source.client(), 500)
    prepare(source)
    with Traffic(source, clients=2, rate=1000), Increments(source) as made:
        run = ferry(source, target)
        run.wait_in_sync()
        until(lambda: target.client(db=DB).exists(*COUNTERS) == len(COUNTERS), "the counters came")
        plant(target)
        code, found = repair(source, target, tmp_path / "found.jsonl")
    run.settle(source)

    assert code == 0, found
    assert {item["key"] for item in found["keys"]} == PLANTED  # type: ignore[attr-defined]
    assert all(item["repaired"] for item in found["keys"])  # type: ignore[attr-defined]
    assert found["repaired"] == len(found["keys"])  # type: ignore[arg-type]
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert {line["key"] for line in lines} == PLANTED
    with target.client(db=DB) as client:
        assert {counter: int(client.get(counter) or 0) for counter in COUNTERS} == made.counts
    equal(source, target)
    assert snapshots(source) == 1
