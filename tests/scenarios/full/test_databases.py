"""Databases that travel, each to its own place, and those that do not."""

from __future__ import annotations

from pathlib import Path

from tests.compare import same
from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import EXTENDED_MS
from tests.servers import Server, StartServer
from tests.traffic import Traffic

ALONE = (1, 7, 15)  # of the target: named by nobody, though the source writes to databases of these numbers


def mark(target: Server) -> None:
    for db in ALONE:
        target.client(db=db).set("mine", db)


def assert_alone(target: Server) -> None:
    """These databases hold what they held."""
    for db in ALONE:
        with target.client(db=db) as client:
            assert client.keys() == [b"mine"]
            assert client.get("mine") == b"%d" % db


def test_each_database_arrives_where_it_is_sent(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 600)
    mark(target)

    with Traffic(source, clients=2, rate=1000, mix="exact", databases=(0, 1, 7)):
        run = ferry(source, target, config="databases = {0 = 0, 1 = 5}")
        run.wait_in_sync()
    run.settle(source)
    assert source.client(db=7).dbsize(), "somebody wrote to a database that does not travel"
    same(source.url(), target.url(), shift_ms=EXTENDED_MS, dbs={0: 0, 1: 5})
    assert target.client(db=5).dbsize()
    assert_alone(target)

    source.client().flushall()
    source.client(db=1).set("after", 1)
    run.settle(source)
    assert target.client(db=5).keys() == [b"after"]
    assert_alone(target)


def test_one_database_of_each_url(server: StartServer, tmp_path: Path) -> None:
    source, target = server("valkey-9.1"), server("valkey-9.1")
    fill(source.client(), 600)
    mark(target)

    with Keyferry(source.url(1), target.url(5), tmp_path / "state") as run:
        with Traffic(source, clients=2, rate=1000, mix="exact", databases=(0, 1)):
            run.wait_in_sync()
        run.settle(source)
        same(source.url(), target.url(), shift_ms=EXTENDED_MS, dbs={1: 5})
        assert target.client(db=5).dbsize()
        assert target.client().keys() == []
        assert_alone(target)
