"""What is asked of a task while a full sync in place is under way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sync_tasks import Client, Task
from tests import compare
from tests.run_up import Up
from tests.scenarios.backlog_gone.test_backlog_gone import SMALL, overrun
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.slow import RAW, bulk, slowed
from tests.traffic import Traffic
from tests.waiting import until


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Up(tmp_path / "state", "--stream", "2") as service:
        service.wait_ready()
        with Client(service.state) as made:
            yield made


@contextmanager
def in_place(client: Client, source: Server, target: Server) -> Iterator[Task]:
    """Within the block some of the second snapshot is on the target, and by far not all; what was deleted is still."""
    bulk(source, 15_000)
    source.client(db=2).set("deleted", 1)
    task = client.create(source.url(), target.url())
    client.start(task)
    until(lambda: client.progress(task).in_sync, "in sync", 60)
    with slowed(target):
        with source.client().pipeline(transaction=True) as cut:
            cut.client_kill_filter(_type="replica")
            cut.execute()
        overrun(source)
        source.client(db=2).delete("deleted")
        until(lambda: snapshots(source) == 2, "another snapshot", 60)
        until(lambda: client.get(task).state == "initializing", "that is loaded")
        until(lambda: 0 < client.progress(task).keys_done < 7_000, "in part", 60)
        yield task


def written(target: Server) -> int:
    """Transactions that it has executed: all that is ours."""
    return int(target.client().info("commandstats")["cmdstat_exec"]["calls"])


def test_a_rest(client: Client, server: StartServer) -> None:
    """Nothing more is loaded, and all is when it goes on."""
    source, target = server("redis-7.0", config=SMALL | RAW), server("redis-7.0")
    with in_place(client, source, target) as task:
        assert client.suspend(task).state == "suspended"
    transactions = written(target)
    time.sleep(1)
    assert written(target) == transactions
    with Traffic(source, clients=2, rate=500):
        client.resume(task)
        until(lambda: client.progress(task).in_sync, "in sync", 60)
    equal(source, target)


def test_the_cut_over(client: Client, server: StartServer) -> None:
    """It waits for the load to end, and is exact."""
    source, target = server("redis-7.0", config=SMALL | RAW), server("redis-7.0")
    with in_place(client, source, target) as task:
        client.finish(task)
    until(lambda: client.get(task).state == "finished", "the end", 60)
    compare.same(source.url(), target.url(), shift_ms=0, tolerance_ms=0)
