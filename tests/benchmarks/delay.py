"""The delay from a write's answer on the source to its commit on the target, under writes at a steady rate."""

from __future__ import annotations

import statistics
import time

from tests.benchmarks.storm import start_storm
from tests.servers import Server

PROBE = "probe"
EVERY_S = 0.01
SETTLED_S = 2.0


def delays_ms(source: Server, target: Server, rate: int, seconds: float) -> list[float]:
    """Of one probe every hundredth of a second; the target says when it has it.

    Args:
        rate: of other writes, a second.
    """
    watcher = target.client()
    before = watcher.config_get("notify-keyspace-events")["notify-keyspace-events"]
    watcher.config_set("notify-keyspace-events", "K$")
    listener = watcher.pubsub()
    listener.subscribe(f"__keyspace@0__:{PROBE}")
    listener.get_message(timeout=5)
    writer = start_storm(source, "set", int(rate * (seconds + SETTLED_S)), rate)
    client = source.client()
    time.sleep(SETTLED_S)
    found: list[float] = []
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        client.set(PROBE, len(found))
        written = time.monotonic()
        while listener.get_message(timeout=5) is None:
            pass
        found.append((time.monotonic() - written) * 1000)
        time.sleep(max(0.0, began + EVERY_S - time.monotonic()))
    writer.wait()
    listener.close()
    watcher.config_set("notify-keyspace-events", before)
    return found


def p99(delays: list[float]) -> float:
    return statistics.quantiles(delays, n=100)[98]
