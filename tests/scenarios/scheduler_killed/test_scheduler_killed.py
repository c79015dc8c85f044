"""SIGKILL of the scheduler: the stream needs none to go on, and lost work waits for the next one, not for long."""

from __future__ import annotations

import contextlib
import sqlite3
import time

import psutil
import pytest

from tests.dataset import fill
from tests.run_keyferry import Keyferry, Line
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import RAW, bulk, slowed
from tests.traffic import Traffic

LEADS_WITHIN_S = 5.0
NOTICED_WITHIN_S = 10.0  # the next scheduler watches the lease of a dead loader anew, and Celery looks every 5 s

Lease = tuple[str, int, int]  # owner, epoch, beat


def lease(run: Keyferry) -> Lease | None:
    """The scheduler's lease, if one holds it."""
    database = sqlite3.connect(f"file:{run.state / 'keyferry.db'}?mode=ro", uri=True, timeout=10)
    with contextlib.closing(database):
        query = "SELECT owner, epoch, beat FROM lease WHERE name = 'scheduler' AND owner IS NOT NULL"
        found: Lease | None = database.execute(query).fetchone()
        return found


def leads(run: Keyferry, pid: int) -> bool:
    """That process holds the lease and has renewed it."""
    held = lease(run)
    return held is not None and held[0].split(":")[1] == str(pid) and held[2] > 0


def kill_leader(run: Keyferry) -> None:
    """SIGKILL the scheduler that leads; another leads in time."""
    wait_leader(run, run.one("scheduler").pid, time.monotonic() + LEADS_WITHIN_S)
    deadline = time.monotonic() + LEADS_WITHIN_S
    dead = run.kill("scheduler")
    while (successor := run.one("scheduler").pid) == dead:
        time.sleep(0.02)
    wait_leader(run, successor, deadline)


def wait_leader(run: Keyferry, pid: int, deadline: float) -> None:
    while not leads(run, pid):
        assert time.monotonic() < deadline, f"process {pid} does not lead: {lease(run)}"
        time.sleep(0.02)


def test_in_follow(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 400)

    with Traffic(source, clients=4, rate=2000):
        run = ferry(source, target)
        line = run.wait_in_sync()
        epoch, began = line["nodes"][0]["epoch"], len(run.lines)
        for _time in range(2):
            kill_leader(run)
        lines = run.lines[began:]
    run.settle(source)

    applied = [line["applied_offset"] for line in lines]
    assert applied[-1] > applied[0]
    assert {line["phase"] for line in lines} == {"synchronizing"}
    assert run.last["nodes"][0]["epoch"] == epoch, "the stream has changed hands for no reason"
    equal(source, target)
    assert snapshots(source) == 1


def caught(run: Keyferry) -> tuple[Line, psutil.Process]:
    """A chunk in the hands of a loader, and that process."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        loaders = run.find("load worker", child=True)
        for chunk in run.chunks():
            for loader in loaders:
                if chunk["state"] == "running" and f":{loader.pid}:" in chunk["owner"]:
                    return chunk, loader
        time.sleep(0.02)
    raise AssertionError(f"no chunk is being loaded\n{run.report()}")


def sent_again(run: Keyferry, chunk: Line) -> bool:
    """Its loader's death was noticed, and a new message sent."""
    (now,) = (row for row in run.chunks() if row["id"] == chunk["id"])
    return now["attempts"] > chunk["attempts"] and now["dispatched_at"] is not None


@pytest.mark.parametrize("whole", [False, True], ids=["pool child", "whole worker"])
def test_while_a_loader_is_dead(whole: bool, server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    bulk(source, 20_000)

    with Traffic(source, clients=2, rate=1000), slowed(target):
        run = ferry(source, target)
        chunk, loader = caught(run)
        deadline = time.monotonic() + NOTICED_WITHIN_S
        loader.kill()
        if whole:
            run.kill("load worker")
        kill_leader(run)
        while not sent_again(run, chunk):
            assert time.monotonic() < deadline, f"not sent again: {run.chunks()}"
            time.sleep(0.05)
    run.wait_phase("synchronizing")
    run.settle(source)

    assert any(row["epoch"] > chunk["epoch"] for row in run.chunks() if row["id"] == chunk["id"])
    equal(source, target)
    assert snapshots(source) == 1
