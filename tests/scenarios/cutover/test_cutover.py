"""The cut-over: asked for while the command runs, it ends it; killed at any moment, the next run ends it.

Also settling once more under another extension, which is the same walk.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.secrets import SecretBox, new_key
from sync_tasks.spec import TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.store import Store
from tests.compare import same
from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.servers import Server, StartServer
from tests.traffic import Traffic

CONTROL = 5
USAGE = 2
HOUR_MS = 3_600_000
OVER = 'conflict_mode = "ignore-and-proceed"\n'


@contextmanager
def store(run: Keyferry) -> Iterator[Store]:
    """The database of a state directory."""
    opened = Store(f"sqlite:///{run.state / 'keyferry.db'}", SecretBox(new_key()))
    try:
        yield opened
    finally:
        opened.dispose()


def finish(run: Keyferry) -> None:
    with store(run) as opened:
        opened.finish(opened.tasks()[0].id)


def ends(run: Keyferry, seconds: float = 60.0) -> None:
    assert run.wait(seconds) == 0, run.report()
    assert run.last["phase"] == "finished"
    with store(run) as opened:
        (task,) = opened.tasks()
        assert task.state == TaskState.FINISHED
        assert any(event.kind == "closed" for event in opened.events(task.id))


def many(server: Server, keys: int, fields: int, seed: int = 1) -> None:
    """Volatile keys in two databases; where there is such a thing, volatile fields of a large hash and small ones."""
    rng = random.Random(seed)
    now = time.time_ns() // 1_000_000
    for db in (0, 5):
        pipe = server.client(db=db).pipeline(transaction=False)
        for i in range(keys):
            pipe.execute_command("SET", f"many:{seed}:{i}", i, "PXAT", now + rng.randrange(HOUR_MS, 99 * HOUR_MS))
        if server.kind == "valkey-9.1":
            for i in range(fields):
                for key in (f"large:{seed}", f"small:{seed}:{i // 20}"):
                    pipe.hset(key, f"f{i}", i)
                    at = now + rng.randrange(HOUR_MS, 99 * HOUR_MS)
                    pipe.execute_command("HPEXPIREAT", key, at, "FIELDS", 1, f"f{i}")
        pipe.execute()


def equal(source: Server, target: Server, extension_s: int = 0, **kw: Any) -> None:
    """To the millisecond, the expiries too."""
    same(source.url(), target.url(), shift_ms=extension_s * 1000, **kw)


KINDS = [
    ("redis-6.2", "redis-6.2"),
    ("redis-7.0", "redis-7.0"),
    ("redis-7.0", "valkey-9.1"),
    ("valkey-9.1", "valkey-9.1"),
]


@pytest.mark.parametrize(("source_kind", "target_kind"), KINDS)
def test_every_expiry_is_the_sources(
    source_kind: str, target_kind: str, server: StartServer, ferry: StartFerry
) -> None:
    source, target = server(source_kind), server(target_kind)
    fill(source.client(), 500)
    own = target.client(db=5)
    own.set("foreign", 1)
    own.hset("foreign:hash", "f", 1)
    foreign = time.time_ns() // 1_000_000 + HOUR_MS
    own.pexpireat("foreign", foreign)
    fields = target_kind == "valkey-9.1"
    if fields:
        own.execute_command("HPEXPIREAT", "foreign:hash", foreign, "FIELDS", 1, "f")

    with Traffic(source, clients=2, rate=1000):
        run = ferry(source, target, config=OVER)
        run.wait_phase("synchronizing")
        many(source, 3000, 2000)
        time.sleep(1)
    run.settle(source)
    finish(run)
    ends(run)

    if target.version >= (7, 0):
        assert own.pexpiretime("foreign") == foreign
    else:
        assert abs(own.pttl("foreign") + time.time() * 1000 - foreign) < 1000
    if fields:
        assert own.execute_command("HPEXPIRETIME", "foreign:hash", "FIELDS", 1, "f") == [foreign]
    own.delete("foreign", "foreign:hash")
    equal(source, target)


class Writer(threading.Thread):
    """Numbers a list's items, and takes locks that live for less than a second."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.client = server.client()
        self.over = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.over.wait(0.001):
            number += 1
            self.client.rpush("numbers", number)
            self.client.set(f"lock:{number % 40}", number, px=300)

    def end(self) -> None:
        self.over.set()
        self.join(10)


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1"])
def test_with_a_writer_that_has_not_stopped(kind: str, server: StartServer, ferry: StartFerry) -> None:
    """It ends all the same, somewhere in the stream: nothing before that is missing, nothing behind it is carried."""
    source, target = server(kind), server(kind)
    many(source, 2000, 500)
    writer = Writer(source)
    writer.start()
    run = ferry(source, target)
    run.wait_in_sync()
    finish(run)
    ends(run)
    time.sleep(0.5)
    there = target.client().lrange("numbers", 0, -1)
    writer.end()

    here = source.client().lrange("numbers", 0, -1)
    assert 100 < len(there) < len(here)
    assert there == here[: len(there)]
    assert not target.client().keys("lock:*"), "each lived as long as at the source"
    assert source.client().delete("numbers") == target.client().delete("numbers")
    time.sleep(0.5)
    equal(source, target)


@pytest.mark.parametrize(("kind", "seed"), [("redis-6.2", 1), ("redis-7.0", 2), ("valkey-9.1", 3)])
def test_killed_on_the_way(kind: str, seed: int, server: StartServer, ferry: StartFerry) -> None:
    source, target = server(kind), server(kind)
    rng = random.Random(seed)
    many(source, 20_000, 5000)
    run = ferry(source, target)
    run.wait_in_sync()
    finish(run)
    kills = 0
    while kills < 8 and run.alive:
        time.sleep(rng.uniform(0.1, 0.4) * (kills + 1))
        if not run.alive:
            break
        run.kill_tree(rng)
        kills += 1
        with store(run) as opened:
            if opened.tasks()[0].state == TaskState.FINISHED:
                break
        run = ferry(source, target)
    else:
        ends(run)

    assert kills, "it was too quick for this test"
    with store(run) as opened:
        assert opened.tasks()[0].state == TaskState.FINISHED
    assert checkpoint(target)[b"state"] == b"finished"
    equal(source, target)


def checkpoint(target: Server) -> dict[bytes, bytes]:
    (key,) = target.client().keys("keyferry:*:ck")
    return dict(target.client().hgetall(key))


def test_an_older_copy_of_the_state_directory_writes_nothing(
    server: StartServer, ferry: StartFerry, tmp_path: Path
) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    many(source, 200, 0)
    run = ferry(source, target)
    run.wait_in_sync()
    assert run.stop() == 130
    shutil.copytree(run.state, tmp_path / "older")
    run = ferry(source, target)
    run.wait_in_sync()
    finish(run)
    ends(run)

    target.client().set("new master", "writes")
    source.client().set("new master", "must not arrive")
    before = target.client().execute_command("DEBUG", "DIGEST")
    with Keyferry(source.url(), target.url(), tmp_path / "older") as older:
        assert older.wait(30) == CONTROL, older.report()
        (line,) = older.errors.splitlines()
        assert line.startswith("keyferry: control: the target is closed to this task"), line
    with Keyferry(source.url(), target.url(), tmp_path / "older") as again:
        assert again.wait(30) == CONTROL, again.report()
    assert ferry(source, target).wait(30) == USAGE, "nor does the one that was cut over begin again"
    assert target.client().execute_command("DEBUG", "DIGEST") == before


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1"])
def test_another_extension(kind: str, server: StartServer, ferry: StartFerry) -> None:
    """600 s, then none, then 60 s: at a start, and while it runs."""
    source, target = server(kind), server(kind)
    many(source, 2000, 1000)
    run = ferry(source, target, config="extend_expiry_s = 600\n")
    run.wait_in_sync()
    many(source, 2000, 1000, seed=2)
    run.settle(source)
    equal(source, target, 600)
    assert run.stop() == 130

    run = ferry(source, target, config="extend_expiry_s = 0\n")
    run.settle(source)
    equal(source, target, 0)

    with store(run) as opened:
        opened.modify(opened.tasks()[0].id, TaskSpec(extend_expiry_s=60))
    run.wait_phase("modifying")
    run.wait_phase("synchronizing")
    run.settle(source)
    equal(source, target, 60)
    assert checkpoint(target)[b"extend"] == b"60000"
    assert run.stop() == 130
