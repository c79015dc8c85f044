"""Four clients write what counts double when executed twice, before, during and after the snapshot."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median

import pytest

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal
from tests.servers import StartServer
from tests.traffic import Traffic

KINDS = [
    ("redis-6.2", "redis-6.2"),
    ("redis-7.0", "redis-7.0"),
    ("redis-7.0", "valkey-9.1"),
    ("valkey-8.1", "valkey-8.1"),
    ("valkey-9.1", "valkey-9.1"),
]


@pytest.mark.parametrize(("source_kind", "target_kind"), KINDS)
def test_every_write_takes_effect_once(
    source_kind: str, target_kind: str, server: StartServer, ferry: StartFerry
) -> None:
    source, target = server(source_kind), server(target_kind)
    fill(source.client(), 2000)

    with Traffic(source, clients=4, rate=3000) as traffic:
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(4)
    run.settle(source)

    assert traffic.written > 3000
    equal(source, target)
    pauses = [later - earlier for earlier, later in pairwise(run.times)]
    assert median(pauses) <= 0.75, "a line each half second, on a machine that has more to do"
    assert run.stop() == 130


def test_full_speed_is_caught_up_with(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    run = ferry(source, target)
    run.wait_phase("synchronizing")
    with Traffic(source, clients=2, rate=0, mix="exact") as traffic:
        time.sleep(3)
    run.settle(source)

    assert traffic.written > 5_000
    equal(source, target)


def test_scripts_and_functions_are_carried(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("valkey-8.1")
    client = source.client()
    fill(client, 200)
    run = ferry(source, target)
    run.wait_phase("synchronizing")

    body = "redis.register_function('late', function(k, a) return redis.call('INCR', k[1]) end)"
    client.execute_command("FUNCTION", "LOAD", f"#!lua name=late\n{body}")
    client.execute_command("FUNCTION", "DELETE", "river")
    client.execute_command("FCALL", "late", 1, "counted")
    client.execute_command("FCALL", "ferry_bump", 1, "counted", 41)
    client.eval("redis.call('SET', KEYS[1], redis.call('TIME')[1])", 1, "clock")
    run.settle(source)

    assert target.client().get("counted") == b"42"
    equal(source, target)


def test_whole_database_commands(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    client = source.client()
    fill(client, 400)
    run = ferry(source, target)
    run.wait_in_sync()

    client.swapdb(0, 5)
    run.settle(source)
    equal(source, target)

    client.execute_command("MOVE", "s:raw", 9)
    source.client(db=1).flushdb()
    run.settle(source)
    equal(source, target)

    client.flushall()
    client.set("after", 1)
    run.settle(source)
    equal(source, target)


def test_a_command_with_more_than_a_million_arguments(server: StartServer, ferry: StartFerry) -> None:
    """Servers from 7.0 on take it from their clients, and send it on as one command."""
    source, target = server("redis-7.0"), server("redis-7.0")
    run = ferry(source, target)
    run.wait_in_sync()
    source.client().rpush("list", *([b"x"] * (1 << 20)), b"last")
    run.settle(source)

    assert target.client().llen("list") == (1 << 20) + 1
    assert run.last["retry"] is None
    equal(source, target)
