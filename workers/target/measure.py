"""What a target says of itself: its clock, and whether its hashes may hold field expiries."""

from __future__ import annotations

import re

from workers.clock import Clock
from workers.moment import now_ms
from workers.target.link import TargetLink

VALKEY = re.compile(rb"valkey_version:(\d+)")
REDIS = re.compile(rb"redis_version:(\d+)")


def measure(link: TargetLink, clock: Clock) -> bool:
    """Set `clock` by the target's; whether its hashes may hold field expiries."""
    info: bytes = link.ask(b"INFO", b"server")
    valkey = VALKEY.search(info)
    found = valkey or REDIS.search(info)
    before = now_ms()
    seconds, micros = link.ask(b"TIME")
    clock.observe(before, int(seconds) * 1000 + int(micros) // 1000, now_ms())
    return found is not None and int(found[1]) >= (9 if valkey else 8)
