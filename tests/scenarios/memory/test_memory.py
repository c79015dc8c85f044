"""Memory of every process stays bounded, however large a value is."""

from __future__ import annotations

import time

from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal
from tests.servers import Server, StartServer

LIMIT_MB = 200


def large_values(source: Server) -> None:
    client = source.client()
    client.eval("for i = 1, 1000000 do redis.call('HSET', KEYS[1], 'f:' .. i, 'value ' .. i) end", 1, "hash")
    client.eval("for i = 1, 300000 do redis.call('RPUSH', KEYS[1], string.rep('x', 300)) end", 1, "list")
    client.eval("for i = 1, 1000000 do redis.call('ZADD', KEYS[1], i / 3, 'm' .. i) end", 1, "zset")
    client.set("string", bytes(range(256)) * (80 * 4096))
    client.execute_command("PEXPIRE", "hash", 9_000_000)


def test_huge_values(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    large_values(source)

    peak: dict[str, float] = {}
    run = ferry(source, target, until="in-sync")
    while run.alive:
        for name, used in run.rss_mb().items():
            peak[name] = max(used, peak.get(name, 0))
        time.sleep(0.05)
    assert run.wait() == 0

    assert len(peak) >= 5, "the processes were seen"
    assert {name: used for name, used in peak.items() if used > LIMIT_MB} == {}
    equal(source, target)
