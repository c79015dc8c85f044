"""Memory of each of our processes, and how long the target is kept busy, with huge values and a huge backlog."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.benchmarks.load import offset
from tests.benchmarks.ours import Ours
from tests.benchmarks.stalls import Stalls
from tests.benchmarks.storm import start_storm
from tests.servers import Server

BACKLOG_WRITES = 1_300_000  # of 4 KB each
MUST_MB, MUST_MS = 150, 50
POLL_S = 0.1


def fill(source: Server) -> None:
    """A hash of 5 million fields, a list of 2 million elements, a string of 500 MB."""
    client = source.client(socket_timeout=600)
    for first in range(0, 5_000_000, 500_000):
        script = "for i = ARGV[1], ARGV[1] + 499999 do redis.call('HSET', KEYS[1], 'field:' .. i, 'value ' .. i) end"
        client.eval(script, 1, "huge:hash", first)
    for _ in range(4):
        client.eval("for i = 1, 500000 do redis.call('RPUSH', KEYS[1], string.rep('x', 100)) end", 1, "huge:list")
    client.set("huge:string", bytes(500 << 20))


def huge(source: Server, target: Server, made: Callable[[], Ours]) -> Iterator[str]:
    """Lines of the loaded values, and of 5 GB of the stream that wait on disk while the target stands still."""
    client: Any = target.client()
    client.config_set("slowlog-log-slower-than", 1000)
    client.config_set("slowlog-max-len", 10_000)
    client.execute_command("SLOWLOG", "RESET")
    ours, stalls = made(), Stalls(target.port)
    ours.follow()
    ours.in_sync()
    yield _line("huge values, loaded", ours, client, stalls)
    ours.applied()
    target.pause()
    start_storm(source, "long", BACKLOG_WRITES).wait()
    target.resume()
    stalls = Stalls(target.port)
    end = offset(source)
    while ours.applied() < end:
        time.sleep(POLL_S)
    yield _line("5 GB of backlog, drained", ours, client, stalls)
    ours.leave()


def _line(name: str, ours: Ours, client: Any, stalls: Stalls) -> str:
    waited, late = stalls.end()
    largest = max(ours.usage.rss_mb, key=ours.usage.rss_mb.__getitem__)
    slow = [(entry["duration"] / 1000, entry["command"].split()[:2]) for entry in client.slowlog_get(10_000)]
    took, what = max(slow, default=(0.0, [b"none"]))
    return (
        f"{name:<30} memory at peak: {ours.usage.rss_mb[largest]:.0f} MB, {largest.strip()} (must {MUST_MB});"
        f" the target's longest command: {took:.0f} ms, {b' '.join(what).decode()};"
        f" the longest wait of another client: {waited:.0f} ms (must {MUST_MS}; itself woken up to {late:.0f} ms late)"
    )
