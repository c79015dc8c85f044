"""Somebody else holds the database of the state directory for longer than anybody waits for it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.traffic import Traffic

LOCKED_S = 40.0


def test_in_follow(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 500)
    with Traffic(source, clients=2, rate=500):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        with closing(sqlite3.connect(run.state / "keyferry.db", isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(LOCKED_S)
            other.execute("ROLLBACK")
        assert run.alive, run.errors
        time.sleep(1)
    run.settle(source, timeout=90)
    equal(source, target)
    assert snapshots(source) == 1
