"""Memory of every process stays bounded, however large a value is."""

from __future__ import annotations

import time

import pytest

from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal
from tests.servers import Server, StartServer
from tests.slow import RAW

LIMIT_MB = 200
LARGE = 64 << 20  # bytes


def large_values(source: Server) -> None:
    client = source.client()
    client.eval("for i = 1, 1000000 do redis.call('HSET', KEYS[1], 'f:' .. i, 'value ' .. i) end", 1, "hash")
    client.eval("for i = 1, 300000 do redis.call('RPUSH', KEYS[1], string.rep('x', 300)) end", 1, "list")
    client.eval("for i = 1, 400000 do redis.call('ZADD', KEYS[1], i / 3, 'm' .. i) end", 1, "zset")
    client.set("string", bytes(range(256)) * (80 * 4096))
    client.execute_command("PEXPIRE", "hash", 9_000_000)


def more_large_values(source: Server) -> None:
    """A set and a stream of more than `LARGE` bytes each, the stream with all that a stream can have."""
    client = source.client()
    client.eval("for i = 1, 18000 do redis.call('SADD', KEYS[1], i .. string.rep('m', 4000)) end", 1, "set")
    body = "for i = 1, 18000 do redis.call('XADD', KEYS[1], i .. '-' .. i % 7, 'f' .. i, string.rep('v', 4000)) end"
    client.eval(body, 1, "stream")
    client.xdel("stream", "7-0", "18000-3")
    client.xgroup_create("stream", "readers", "0")
    client.xreadgroup("readers", "one", {"stream": ">"}, count=500)
    client.xclaim("stream", "readers", "two", 0, ["1-1", "2-2"], retrycount=9)
    client.xack("stream", "readers", "3-3")
    client.execute_command("PEXPIRE", "stream", 9_000_000)


def run_to_its_end(run: Keyferry) -> dict[str, float]:
    """The most memory that each process had, in MB."""
    peak: dict[str, float] = {}
    while run.alive:
        for name, used in run.rss_mb().items():
            peak[name] = max(used, peak.get(name, 0))
        time.sleep(0.05)
    assert run.wait() == 0
    assert len(peak) >= 5, "the processes were seen"
    return peak


def until_counted(run: Keyferry, target: Server, count: bytes) -> dict[str, float]:
    """The most memory that each process had, in MB, until the target's `n` is so much."""
    peak: dict[str, float] = {}
    client = target.client()
    while client.get("n") != count:
        for name, used in run.rss_mb().items():
            peak[name] = max(used, peak.get(name, 0))
        time.sleep(0.05)
        assert run.alive
    assert len(peak) >= 5, "the processes were seen"
    return peak


def assert_bounded(peak: dict[str, float]) -> None:
    assert {name: used for name, used in peak.items() if used > LIMIT_MB} == {}


def test_huge_values(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    large_values(source)
    assert_bounded(run_to_its_end(ferry(source, target, until="in-sync")))
    equal(source, target)


@pytest.mark.parametrize(
    ("source_kind", "target_kind"), [("redis-6.2", "redis-7.0"), ("redis-7.0", "valkey-9.1")]
)
def test_huge_sets_and_streams(source_kind: str, target_kind: str, server: StartServer, ferry: StartFerry) -> None:
    source, target = server(source_kind, config=RAW), server(target_kind)
    more_large_values(source)
    run = ferry(source, target, until="in-sync")
    assert_bounded(run_to_its_end(run))
    assert [chunk["bytes"] > LARGE for chunk in run.chunks() if chunk["huge"]] == [True, True]
    commands = target.client().info("commandstats")
    assert commands["cmdstat_sadd"]["calls"] > 50, "the set came in pieces"
    equal(source, target)


def test_huge_values_in_the_stream(server: StartServer, ferry: StartFerry) -> None:
    """They go from the log to the target; also where a time is to be rewritten, and within a transaction."""
    source = server("redis-7.0", config={"client-output-buffer-limit": "replica 0 0 0"})
    target = server("redis-7.0")
    run = ferry(source, target)
    run.wait_in_sync()
    client, value = source.client(), bytes(range(256)) * (1 << 20)
    client.set("plain", value)
    client.set("timed", value[: len(value) // 2], px=9_000_000)
    with client.pipeline() as pipe:
        pipe.incr("n").append("plain", "more").rpush("list", value[: len(value) // 4], "x").incr("n").execute()
    del value
    assert_bounded(until_counted(run, target, b"2"))
    run.settle(source)
    equal(source, target)


@pytest.mark.parametrize("target_kind", ["redis-7.0", "redis-6.2"])
def test_huge_values_are_restored_in_the_stream(target_kind: str, server: StartServer, ferry: StartFerry) -> None:
    """RESTORE with what DUMP gave, of 64 to 192 MB, also to a target that does not read it as it stands."""
    source = server("redis-7.0", config={"client-output-buffer-limit": "replica 0 0 0", **RAW})
    target = server(target_kind)
    client = source.client()
    client.eval("for i = 1, 350000 do redis.call('HSET', KEYS[1], 'f' .. i, string.rep(i, 35)) end", 1, "hash")
    client.eval("for i = 1, 18000 do redis.call('RPUSH', KEYS[1], string.rep(i, 900)) end", 1, "list")
    client.set("string", bytes(range(256)) * (192 << 12))
    payloads = {key: client.dump(key) for key in ("hash", "list", "string")}
    client.delete("hash", "list", "string")
    sizes = [len(payload) for payload in payloads.values()]
    assert min(sizes) > LARGE
    run = ferry(source, target)
    run.wait_in_sync()
    client.restore("hash", 9_000_000, payloads["hash"])
    client.restore("string", 0, payloads["string"])
    with client.pipeline() as pipe:
        pipe.incr("n").restore("list", 0, payloads["list"]).rpush("list", "more").incr("n").execute()
    del payloads
    peak = until_counted(run, target, b"2")
    run.settle(source)
    assert_bounded(peak)
    equal(source, target)
    assert target.client().pttl("hash") > 0


def test_a_large_value_is_copied_anew(server: StartServer, ferry: StartFerry) -> None:
    """After a command on it that the target has refused."""
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    client = source.client()
    client.set("n", 1)
    client.set("large", bytes(range(256)) * (50 << 12))
    run = ferry(source, target)
    run.wait_in_sync()
    with target.client() as there:
        there.delete("large")
        there.rpush("large", "foreign")
    client.append("large", "more")
    peak: dict[str, float] = {}
    while target.client().type("large") != b"string":
        for name, used in run.rss_mb().items():
            peak[name] = max(used, peak.get(name, 0))
        time.sleep(0.01)
        assert run.alive
    run.settle(source)
    assert_bounded(peak)
    equal(source, target)
    assert "repaired" in [row["kind"] for row in run.rows("SELECT kind FROM event")]
