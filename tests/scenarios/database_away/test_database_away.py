"""PostgreSQL as the database falls silent, or is stopped and started again some time later, under traffic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sync_tasks import Client
from tests.dataset import fill
from tests.hosts import Installation
from tests.postgres import Postgres
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.slow import RAW, bulk, slowed
from tests.traffic import Traffic
from tests.waiting import until

MANNERS = ["silent", "stopped"]
AWAY_S = [20, 60]
BULK = 4000


@pytest.fixture
def postgresql() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture
def database_url(postgresql: Postgres) -> str:
    return postgresql.url


@contextmanager
def away(postgresql: Postgres, manner: str) -> Iterator[None]:
    """For the block."""
    leave, come = {"silent": (postgresql.pause, postgresql.resume), "stopped": (postgresql.stop, postgresql.start)}[
        manner
    ]
    leave()
    try:
        yield
    finally:
        come()


def carried(source: Server) -> int:
    """Up to where the target has the stream, as the source heard from us."""
    (replica,) = [value for name, value in source.client().info("replication").items() if name.startswith("slave")]
    return int(replica["offset"])


@pytest.fixture
def running(here: Installation) -> Iterator[Installation]:
    """A scheduler, and a machine with workers."""
    here.controlled()
    machine = here.host("a")
    machine.start("worker", "--stream", "2")
    machine.start("worker", "--load", "2")
    yield here
    print(here.report())


def settled(client: Client, task: int | str, source: Server) -> None:
    """In sync with all that the source has written."""
    end = int(source.client().info("replication")["master_repl_offset"])
    until(lambda: (client.progress(task).applied_offset or 0) >= end, "everything applied", 90)
    until(lambda: client.progress(task).in_sync, "in sync")


@pytest.mark.parametrize("away_s", AWAY_S)
@pytest.mark.parametrize("manner", MANNERS)
def test_in_follow(
    manner: str, away_s: int, running: Installation, postgresql: Postgres, server: StartServer
) -> None:
    """What is written meanwhile is carried at once: the stream needs the target alone."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 500)
    with Client() as client:
        with Traffic(source, clients=2, rate=800):
            (task,) = client.start([client.create(source.url(), target.url(), name="orders")])
            until(lambda: client.progress(task).in_sync, "in sync")
            with away(postgresql, manner):
                time.sleep(away_s)
                before = carried(source)
                until(lambda: carried(source) > before, "the stream goes on without the database")
        settled(client, task, source)
    equal(source, target)
    assert snapshots(source) == 1


@pytest.mark.parametrize("away_s", AWAY_S)
@pytest.mark.parametrize("manner", MANNERS)
def test_in_full_sync(
    manner: str, away_s: int, running: Installation, postgresql: Postgres, server: StartServer
) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 500)
    bulk(source, BULK, 30_000)
    with Client() as client:
        with Traffic(source, clients=2, rate=500):
            with slowed(target):
                (task,) = client.start([client.create(source.url(), target.url(), name="orders")])
                until(lambda: 0 < client.progress(task).keys_done < BULK / 2, "some keys loaded")
                with away(postgresql, manner):
                    time.sleep(away_s)
                    assert target.client(db=2).dbsize() < BULK, "it was loaded before the database was back"
            until(lambda: client.progress(task).in_sync, "loaded", 90)
        settled(client, task, source)
    equal(source, target)
    assert snapshots(source) == 1
