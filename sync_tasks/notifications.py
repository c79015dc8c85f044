"""Which keyspace notifications a source must send, to be followed by them.

Source: https://redis.io/docs/latest/develop/use/keyspace-notifications/
"""

from __future__ import annotations

ENOUGH = "KEA"
CHANNELS = "KE"
CLASSES = "g$lshzxet"
"""Generic, strings, lists, sets, hashes, sorted sets, expired, evicted, streams; `A` stands for all of them."""


def enough(flags: str) -> bool:
    """Whether `notify-keyspace-events` tells of every key that changes."""
    return any(one in flags for one in CHANNELS) and ("A" in flags or all(one in flags for one in CLASSES))
