"""Scripts by their digest. A source before 7.0 sends them to its replicas, so a client may EVALSHA on the target."""

from __future__ import annotations

import time

import pytest

from tests.halting import halt
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal
from tests.servers import StartServer

EARLY, LATE = "return redis.call('INCR', KEYS[1])", "return redis.call('INCRBY', KEYS[1], 10)"


@pytest.mark.parametrize(
    ("source_kind", "target_kind", "there"),
    [
        ("redis-6.2", "redis-6.2", [True, True]),
        ("redis-6.2", "redis-7.0", [True, True]),
        # From 7.0 on a server keeps scripts to itself, its own replicas do not have them either.
        ("redis-7.0", "redis-7.0", [False, False]),
    ],
)
def test_scripts_are_carried_where_the_source_sends_them(
    source_kind: str, target_kind: str, there: list[bool], server: StartServer, ferry: StartFerry
) -> None:
    source, target = server(source_kind), server(target_kind)
    client = source.client()
    early = client.script_load(EARLY)
    client.evalsha(early, 1, "n")
    run = ferry(source, target)
    run.wait_in_sync()
    late = client.script_load(LATE)
    client.evalsha(late, 1, "n")
    run.settle(source)

    assert target.client().script_exists(early, late) == there
    assert target.client().get("n") == b"11"
    if all(there):
        assert target.client().evalsha(early, 1, "mine") == 1
        target.client().delete("mine")
        client.script_flush()
        run.settle(source)
        assert target.client().script_exists(early, late) == [False, False]
    equal(source, target)


TIMED = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('EXPIRE', KEYS[1], ARGV[2]) return redis.call('INCR', KEYS[2])"


@pytest.mark.parametrize(
    ("source_kind", "target_kind"),
    [("redis-6.2", "redis-6.2"), ("redis-6.2", "valkey-9.1"), ("redis-3.2", "redis-7.0")],
)
def test_the_times_that_a_script_gives_are_the_sources(
    source_kind: str, target_kind: str, server: StartServer, ferry: StartFerry
) -> None:
    """A source that sends scripts has them run again here, later."""
    source, target = server(source_kind), server(target_kind)
    client = source.client()
    if source_kind != "redis-3.2":
        client.config_set("lua-replicate-commands", "no")
    run = ferry(source, target)
    run.wait_in_sync()
    client.eval(TIMED, 2, "short", "n", "a", 2)
    client.eval(TIMED, 2, "long", "n", "b", 5000)
    run.wait_for(lambda line: line["applied_offset"] == line["source_offset"], what="they are there")
    sleeper = run.one("stream worker", child=True)
    halt(sleeper, run.state / "keyferry.db")
    client.eval(TIMED, 2, "short", "n", "a", 1000)
    time.sleep(2.5)
    sleeper.resume()
    run.settle(source)

    assert target.client().mget("short", "long", "n") == [b"a", b"b", b"3"]
    equal(source, target)


LIMITER = """
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('SET', KEYS[1], 0, 'PX', 60000) end
if redis.call('PTTL', KEYS[1]) < 100000 then return redis.call('INCR', KEYS[1]) end
"""
TIMER = "redis.call('PEXPIREAT', KEYS[1], ARGV[1]) redis.call('PERSIST', KEYS[1]) return redis.call('INCR', KEYS[1])"
"""From 5.0 to 6.2 a script that reads a time may not write, where scripts are sent."""
COUNTER = "redis.call('INCR', 'not named') return redis.call('INCR', KEYS[1])"


@pytest.mark.parametrize("source_kind", ["redis-6.2", "redis-3.2"])
def test_scripts_that_read_times_and_scripts_that_the_target_has_lost(
    source_kind: str, server: StartServer, ferry: StartFerry
) -> None:
    source, target = server(source_kind), server("valkey-9.1")
    client = source.client()
    if source_kind == "redis-6.2":
        client.config_set("lua-replicate-commands", "no")
    run = ferry(source, target)
    run.wait_in_sync()
    counter, limiter = client.script_load(COUNTER), client.script_load(LIMITER if source_kind == "redis-3.2" else TIMER)
    for number in range(30):
        client.evalsha(counter, 1, "n")
        client.evalsha(limiter, 1, "limit", time.time_ns() // 1_000_000 + 50)
        if number == 15:
            run.wait_for(lambda line: (line["applied_offset"] or 0) > 0, what="some of it is there")
            target.client().script_flush()
        time.sleep(0.02)
    run.settle(source)

    assert target.client().mget("not named", "n", "limit") == [b"30"] * 3
    equal(source, target)
