"""A source that forbids PSYNC is read by SCAN and DUMP."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from sync_tasks import Client
from sync_tasks.precheck.grants import SCANNING
from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.run_up import Up
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, verified
from tests.servers import Server, StartServer
from tests.waiting import until

HEARD_S = 2.5
FULL = 'reader = "scan"\nsync_types = ["full"]\n'


class Reader:
    """The source as a user who may read, and nothing else."""

    def __init__(self, source: Server) -> None:
        self._source = source
        keys = ["%R~*", "%R~"] if source.version >= (7, 0) else ["~*"]
        known = SCANNING if source.version >= (7, 0) else [one for one in SCANNING if one not in LATER]
        words = ["ACL", "SETUSER", "reader", "reset", "on", ">word", *keys, *known]
        source.client().execute_command(*words)

    def url(self) -> str:
        return self._source.url().replace("redis://", "redis://reader:word@")

    def client(self, **kw: Any) -> Redis:
        return self._source.client(**kw)


LATER = ("+pexpiretime", "+function|list")


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1", "redis-8.2", "redis-6.2"])
def test_all_that_is_there(server: StartServer, ferry: StartFerry, kind: str) -> None:
    """By a user who may not replicate; then the target is closed to the task."""
    source, target = server(kind), server(kind)
    fill(source.client(), 3000)
    assert ferry(Reader(source), target, config=FULL).wait(60) == 0
    equal(source, target, extended_ms=0)


def test_loaders_die(server: StartServer, ferry: StartFerry) -> None:
    """Of a database that is cut into ranges; keys that clients leave alone are equal, one by one."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 2000)
    client = source.client()
    for start in range(0, 200_000, 20_000):
        client.mset({f"mass:{n}": f"value {n}" for n in range(start, start + 20_000)})
    run: Keyferry = ferry(Reader(source), target, config=FULL + "[throttle.full]\nsource_qps = 40000\n", load_workers=2)
    for _ in range(2):
        there = target.client().dbsize()
        until(lambda there=there: target.client().dbsize() > there + 5000, "it loads", 60)
        run.kill("load worker", child=True)
    run.kill("stream worker", child=True)
    assert run.wait(120) == 0, run.report()
    assert len(run.rows("SELECT * FROM chunk WHERE gen = 1 AND db = 0")) >= 4, "it was cut"
    verified(source, target, extended_ms=0)


def test_a_source_that_restarts_is_read_anew(server: StartServer, ferry: StartFerry) -> None:
    """Another process counts its cursors in another order."""
    source, target = server("redis-7.0"), server("redis-7.0")
    client = source.client()
    for start in range(0, 60_000, 20_000):
        client.mset({f"k:{n}": n for n in range(start, start + 20_000)})
    run = ferry(source, target, config=FULL + "[throttle.full]\nsource_qps = 10000\n")
    until(lambda: target.client().dbsize() > 1000 or run.chunks(), "it reads", 30)
    time.sleep(1)
    source.restart(save=True)
    source.client().delete("k:7")
    assert run.wait(120) == 0, run.report()
    assert {row["gen"] for row in run.rows("SELECT gen FROM chunk")} > {1}
    verified(source, target, extended_ms=0)


def test_the_pace_of_questions(server: StartServer, tmp_path: Path) -> None:
    """Within 5 %, all workers together, and changed while they read."""
    source, target = server("redis-7.0"), server("redis-7.0")
    client = source.client()
    for start in range(0, 200_000, 20_000):
        client.mset({f"k:{n}": n for n in range(start, start + 20_000)})

    def pace(seconds: float) -> float:
        """What it is asked in a second, our own questions aside."""
        began, before = time.monotonic(), int(client.info("stats")["total_commands_processed"])
        time.sleep(seconds)
        after = int(client.info("stats")["total_commands_processed"])
        return (after - before - 1) / (time.monotonic() - began)

    with Up(tmp_path / "state", "--load", "3", "--stream", "1") as service:
        service.wait_ready()
        with Client(service.state) as made:
            task = made.create(
                Reader(source).url(), target.url(), reader="scan", sync_types=["full"],
                throttle={"full": {"source_qps": 2000}},
            )  # fmt: skip
            made.start(task)
            until(lambda: pace(1) > 1500, "it is read", 60)
            time.sleep(HEARD_S)
            assert pace(10) == pytest.approx(2000, rel=0.05)
            made.modify(task, throttle={"full": {"source_qps": 800}})
            time.sleep(HEARD_S)
            assert pace(10) == pytest.approx(800, rel=0.05)
            made.modify(task, throttle={"full": {"source_qps": -1}})
            until(lambda: made.get(task).state == "finished", "the rest is read at once", 60)
    verified(source, target, extended_ms=0)


def test_huge_values_and_hostile_names(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    client = source.client()
    client.set("huge", b"x" * (20 << 20))
    source.client(db=3).set("huge alone", b"z" * (9 << 20))
    client.set(b"\r\n*3\r\n", b"\x00\xff")
    client.set("", "no name")
    client.rpush("large", *[b"y" * 100_000 for _ in range(50)])
    with client.pipeline(transaction=False) as pipe:
        for n in range(300_000):
            pipe.hset("fields", n, n)
        pipe.execute()
    assert ferry(source, target, config=FULL).wait(90) == 0
    verified(source, target, extended_ms=0)


def test_what_is_not_granted_is_named(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    reader = Reader(source)
    source.client().execute_command("ACL", "SETUSER", "reader", "-dump")
    run = ferry(reader, target, config=FULL)
    assert run.wait(30) == 3
    assert "may not run DUMP" in run.errors
    assert "+dump" in run.errors
