"""A few commands of a server, as plain Python, to rebuild values with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def run(commands: Iterable[tuple[bytes, list[bytes]]]) -> Any:
    """The value that the commands build; a hash with times maps a field to (value, time or -1)."""
    value: Any = None
    times: dict[bytes, int] = {}
    for name, args in commands:
        if name == b"APPEND":
            value = (value or b"") + args[0]
        elif name == b"RPUSH":
            value = (value or []) + args
        elif name == b"SADD":
            value = (value or set()) | set(args)
        elif name == b"HSET":
            value = (value or {}) | dict(zip(args[::2], args[1::2], strict=True))
        elif name == b"ZADD":
            value = (value or {}) | {m: float(s) for s, m in zip(args[::2], args[1::2], strict=True)}
        else:
            assert name == b"HPEXPIREAT"
            assert args[1] == b"FIELDS"
            assert int(args[2]) == len(args) - 3
            assert set(args[3:]) <= set(value)
            times |= dict.fromkeys(args[3:], int(args[0]))
    return {f: (v, times.get(f, -1)) for f, v in value.items()} if times else value
