"""The writes that live traffic is made of: most of them count double when they are executed twice.

Each operation makes one command from a random generator. Keys carry their type in their name, so that a
RENAME or COPY stays within a type and is not refused.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Command = tuple[Any, ...]
Operation = Callable[[random.Random], Command]

SPREAD = 40  # keys of each type and database: few, so that clients meet on them
KINDS = ("str", "int", "float", "list", "set", "zset", "hash", "stream", "bits", "brief")
SCRATCH = 12  # the database that traffic flushes; swapped with the one before it now and then

# Effects depend on the clock and on random picks: the effects must travel, not the script.
SCRIPT = """
local now = redis.call('TIME')
redis.call('RPUSH', KEYS[1], now[1] .. '.' .. now[2])
local member = redis.call('SPOP', KEYS[2])
if member then redis.call('HINCRBY', KEYS[3], 'popped', 1) end
if redis.call('LLEN', KEYS[1]) > 300 then redis.call('LTRIM', KEYS[1], -100, -1) end
return redis.call('INCR', KEYS[4])
"""


def key(rng: random.Random, kind: str) -> str:
    return f"t:{kind}:{rng.randrange(SPREAD)}"


def some(rng: random.Random) -> str:
    """A key of any kind."""
    return key(rng, rng.choice(KINDS))


def two(rng: random.Random) -> tuple[str, str]:
    """Two keys of one kind."""
    kind = rng.choice(KINDS)
    return key(rng, kind), key(rng, kind)


def number(rng: random.Random) -> int:
    return rng.randrange(1000)


def soon(rng: random.Random) -> int:
    """Milliseconds: now and then shorter than a round trip, often renewed before they end."""
    return rng.choice((1, 20, 150, 800, 3000, 20_000))


COUNTERS: dict[str, tuple[int, Operation]] = {
    "INCR": (8, lambda r: ("INCR", key(r, "int"))),
    "INCRBYFLOAT": (4, lambda r: ("INCRBYFLOAT", key(r, "float"), r.choice(("0.1", "1.7", "-3.25")))),
    "APPEND": (6, lambda r: ("APPEND", key(r, "str"), f"{number(r)},")),
    "LPUSH": (6, lambda r: ("LPUSH", key(r, "list"), number(r), "v")),
    "RPUSH": (6, lambda r: ("RPUSH", key(r, "list"), number(r))),
    "LTRIM": (2, lambda r: ("LTRIM", key(r, "list"), 0, 200)),
    "LPOP": (2, lambda r: ("LPOP", key(r, "list"), 3)),
    "RPOPLPUSH": (3, lambda r: ("RPOPLPUSH", key(r, "list"), key(r, "list"))),
    "LMOVE": (3, lambda r: ("LMOVE", key(r, "list"), key(r, "list"), "LEFT", "RIGHT")),
    "SADD": (6, lambda r: ("SADD", key(r, "set"), number(r), f"m{number(r)}")),
    "SPOP": (4, lambda r: ("SPOP", key(r, "set"), r.randrange(1, 4))),
    "SMOVE": (2, lambda r: ("SMOVE", key(r, "set"), key(r, "set"), number(r))),
    "SUNIONSTORE": (1, lambda r: ("SUNIONSTORE", key(r, "set"), key(r, "set"), key(r, "set"))),
    "XADD": (5, lambda r: ("XADD", key(r, "stream"), "*", "n", number(r), "f", "v")),
    "XTRIM": (2, lambda r: ("XTRIM", key(r, "stream"), "MAXLEN", "~", 100)),
    "ZINCRBY": (5, lambda r: ("ZINCRBY", key(r, "zset"), r.choice((1, -2, 0.5)), f"m{r.randrange(300)}")),
    "ZPOPMIN": (1, lambda r: ("ZPOPMIN", key(r, "zset"))),
    "HINCRBY": (5, lambda r: ("HINCRBY", key(r, "hash"), f"f{r.randrange(200)}", r.randrange(-5, 9))),
    "HDEL": (2, lambda r: ("HDEL", key(r, "hash"), f"f{r.randrange(200)}")),
    "SETRANGE": (2, lambda r: ("SETRANGE", key(r, "bits"), r.randrange(3000), f"<{number(r)}>")),
    "SETBIT": (3, lambda r: ("SETBIT", key(r, "bits"), r.randrange(20_000), r.randrange(2))),
    "BITFIELD": (1, lambda r: ("BITFIELD", key(r, "bits"), "INCRBY", "u8", r.randrange(999), 3)),
    "EVAL": (
        3,
        lambda r: ("EVAL", SCRIPT, 4, key(r, "list"), key(r, "set"), key(r, "hash"), key(r, "int")),
    ),
}

KEYSPACE: dict[str, tuple[int, Operation]] = {
    "SET": (5, lambda r: ("SET", key(r, "str"), number(r))),
    "DEL": (3, lambda r: ("DEL", some(r), some(r))),
    "UNLINK": (1, lambda r: ("UNLINK", some(r))),
    "RENAME": (3, lambda r: ("RENAME", *two(r))),
    "COPY": (3, lambda r: ("COPY", *two(r), "REPLACE")),
    "COPY DB": (1, lambda r: ("COPY", *two(r), "DB", SCRATCH, "REPLACE")),
    "MOVE": (2, lambda r: ("MOVE", some(r), SCRATCH - 1)),
}

EXPIRY: dict[str, tuple[int, Operation]] = {
    "SET PX": (4, lambda r: ("SET", key(r, "brief"), number(r), "PX", soon(r))),
    "SET EX": (3, lambda r: ("SET", key(r, "brief"), number(r), "EX", r.choice((1, 5, 10_000)))),
    "SETEX": (1, lambda r: ("SETEX", key(r, "brief"), 30, number(r))),
    "SET KEEPTTL": (2, lambda r: ("SET", key(r, "brief"), number(r), "KEEPTTL")),
    "EXPIRE": (3, lambda r: ("EXPIRE", some(r), r.choice((0, 1, 60, 4000)))),
    "PEXPIRE": (4, lambda r: ("PEXPIRE", some(r), soon(r))),
    "PERSIST": (3, lambda r: ("PERSIST", some(r))),
    "GETEX": (2, lambda r: ("GETEX", key(r, "brief"), "PX", soon(r))),
    "GETEX PERSIST": (1, lambda r: ("GETEX", key(r, "brief"), "PERSIST")),
}

SWAPS: dict[str, tuple[int, Operation]] = {
    "SWAPDB": (3, lambda r: ("SWAPDB", SCRATCH - 1, SCRATCH)),
}

FIELD_EXPIRY: dict[str, tuple[int, Operation]] = {
    "HPEXPIRE": (4, lambda r: ("HPEXPIRE", key(r, "hash"), soon(r), "FIELDS", 1, f"f{r.randrange(200)}")),
    "HPERSIST": (1, lambda r: ("HPERSIST", key(r, "hash"), "FIELDS", 1, f"f{r.randrange(200)}")),
    "HSETEX": (
        2,
        lambda r: ("HSETEX", key(r, "hash"), "PX", soon(r), "FIELDS", 1, f"f{r.randrange(200)}", number(r)),
    ),
}

MIXES = {
    "counters": COUNTERS,
    "exact": COUNTERS | KEYSPACE | SWAPS,
    "expiry": EXPIRY | {name: COUNTERS[name] for name in ("INCR", "APPEND", "LPUSH", "HINCRBY", "XADD")},
    "all": COUNTERS | KEYSPACE | EXPIRY | SWAPS,
    "unswapped": COUNTERS | KEYSPACE | EXPIRY,
    "all-9": COUNTERS | KEYSPACE | EXPIRY | SWAPS | FIELD_EXPIRY,
    "uncopied-9": {
        name: one
        for name, one in (COUNTERS | KEYSPACE | EXPIRY | SWAPS | FIELD_EXPIRY).items()
        if not name.startswith("COPY")
    },
    "sets": {"SET": (1, lambda r: ("SET", f"set:{r.randrange(20_000)}", r.randbytes(100)))},
}
