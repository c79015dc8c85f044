"""A mixed data set: every type in every encoding that the server knows, in several databases.

Deterministic for a seed, except for stream ids' and expiries' moments.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import redis

DBS = (0, 1, 5, 15)
Command = tuple[Any, ...]

YEAR_MS = 365 * 24 * 3600 * 1000
LIBRARY = """#!lua name={name}
redis.register_function('{name}_bump', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)
"""


def capabilities(client: redis.Redis) -> tuple[bool, tuple[int, int]]:
    """(is it Valkey, its own version)."""
    info = client.info("server")
    valkey = "valkey_version" in info
    version = str(info["valkey_version"] if valkey else info["redis_version"])
    major, minor = version.split(".")[:2]
    return valkey, (int(major), int(minor))


def sibling(client: redis.Redis, db: int) -> redis.Redis:
    """A client like this one on another database of the same server."""
    kw = client.connection_pool.connection_kwargs
    names = ("host", "port", "username", "password", "protocol", "socket_timeout", "retry")
    return redis.Redis(db=db, **{name: kw[name] for name in names if name in kw})


def text(rng: random.Random, size: int) -> bytes:
    """Bytes that LZF can compress."""
    words = [b"ferry", b"river", b"crossing", b"key", b"12345", b" ", b"\n"]
    out = b"".join(rng.choice(words) for _ in range(size // 4 + 1))
    return out[:size]


def strings(rng: random.Random) -> Iterator[Command]:
    for i, value in enumerate([0, -1, 127, 128, -32768, 65536, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63)]):
        yield "SET", f"s:int:{i}", value
    for i, raw in enumerate([b"", b"0123", b"-0", b"+1", b" 1", b"1e3", b"\x00", b"\xff" * 44, b"a" * 44]):
        yield "SET", f"s:text:{i}", raw
    yield "SET", "s:raw", text(rng, 45)
    yield "SET", "s:lzf", text(rng, 100_000)
    yield "SET", "s:random", rng.randbytes(100_000)
    yield "APPEND", "s:append", b"grown"
    yield "SETRANGE", "s:hole", 70_000, b"end"
    yield "SETBIT", "s:bits", 4_000_001, 1
    yield "INCRBYFLOAT", "s:float", "3.0e3"
    yield "PFADD", "s:hll:sparse", "a", "b", "c"
    yield ("PFADD", "s:hll:dense", *(str(i) for i in range(5000)))
    yield "SET", bytes(range(256)), b"binary key"
    yield "SET", b"", b"empty key"
    yield "SET", b"k" * 20_000, b"long key"
    yield "SET", b"{tag}\r\n$3\r\nfoo", b"key like protocol"


def lists(rng: random.Random) -> Iterator[Command]:
    yield ("RPUSH", "l:small", 1, -1, 2**40, "a", "", b"\x00\xff", "1.5")
    yield ("RPUSH", "l:many", *range(30_000))
    yield ("RPUSH", "l:text", *(text(rng, rng.randrange(300)) for _ in range(2000)))
    yield ("RPUSH", "l:wide", "x", text(rng, 70_000), rng.randbytes(20_000), "y")


def sets(rng: random.Random) -> Iterator[Command]:
    yield ("SADD", "set:int16", *range(-5, 100))
    yield ("SADD", "set:int32", *(i * 70_000 for i in range(100)))
    yield ("SADD", "set:int64", -(2**63), 2**63 - 1, *(i * 2**33 for i in range(100)))
    yield ("SADD", "set:packed", "a", "b", "1", "", b"\x00")
    yield ("SADD", "set:table", *(f"member:{i}" for i in range(3000)))
    yield ("SADD", "set:wide", *(text(rng, 200) + bytes([i]) for i in range(20)))
    yield ("SADD", "set:ints", *range(2000))


def zsets(rng: random.Random) -> Iterator[Command]:
    scores = ["inf", "-inf", "0", "-0.0", "1.5", "3.14159265358979", "1e300", "-1e-300", str(2**53)]
    pairs = [part for i, score in enumerate(scores) for part in (score, f"m{i}")]
    yield ("ZADD", "z:packed", *pairs)
    many = [part for i in range(2000) for part in (repr(rng.uniform(-1e6, 1e6)), f"member:{i}")]
    yield ("ZADD", "z:skip", *pairs, *many)
    yield "ZADD", "z:wide", 1, text(rng, 500), 2, b""
    yield ("GEOADD", "z:geo", 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")


def hashes(rng: random.Random) -> Iterator[Command]:
    yield ("HMSET", "h:packed", "a", 1, "", "", b"\x00", b"\xff", "n", 2**63 - 1, "f", "1.50")
    yield ("HMSET", "h:table", *(part for i in range(3000) for part in (f"field:{i}", text(rng, i % 90))))
    yield "HMSET", "h:wide", "f", text(rng, 70_000), "g", rng.randbytes(5000)


def streams(rng: random.Random, version: tuple[int, int]) -> Iterator[Command]:
    for i in range(1, 700):
        yield ("XADD", "x:groups", f"{1000 + i * 3}-{i % 4}", "same", i, "fields", text(rng, i % 60))
    for i in range(1, 50):
        yield ("XADD", "x:varied", f"{i}-1", *(part for f in range(i % 5 + 1) for part in (f"f{f}:{i}", "v")))
    yield "XDEL", "x:groups", "1003-1", "1006-2", "1300-0"
    yield "XGROUP", "CREATE", "x:groups", "g1", "0"
    yield "XGROUP", "CREATE", "x:groups", "g2", "1500-0"
    yield "XGROUP", "CREATE", "x:groups", "g3", "$"
    if version >= (6, 2):
        yield "XGROUP", "CREATECONSUMER", "x:groups", "g3", "idle"
    for consumer in ("c1", "c2"):
        yield "XREADGROUP", "GROUP", "g1", consumer, "COUNT", 120, "STREAMS", "x:groups", ">"
    yield "XREADGROUP", "GROUP", "g2", "c3", "COUNT", 40, "STREAMS", "x:groups", ">"
    yield "XACK", "x:groups", "g1", "1009-3", "1012-0"
    yield "XCLAIM", "x:groups", "g1", "c2", "0", "1015-1", "1018-2"
    yield "XADD", "x:emptied", "5-5", "a", "b"
    yield "XDEL", "x:emptied", "5-5"
    yield "XGROUP", "CREATE", "x:born-empty", "g", "$", "MKSTREAM"
    yield "XADD", "v:stream", "1-1", "a", "b"
    yield "PEXPIRE", "v:stream", rng.randrange(500_000, 5_000_000)
    yield "XADD", "x:auto", "MAXLEN", "~", 100, "*", "a", "b"
    if version >= (7, 0):
        yield "XSETID", "x:varied", "900-0", "ENTRIESADDED", 77, "MAXDELETEDID", "800-0"


def volatile(rng: random.Random, now_ms: int) -> Iterator[Command]:
    for i in range(40):
        yield "SET", f"v:near:{i}", i, "PX", rng.randrange(2000, 60_000)
        yield "SET", f"v:far:{i}", i, "PX", rng.randrange(3_600_000, YEAR_MS)
    yield "SET", "v:farthest", 1
    yield "PEXPIREAT", "v:farthest", now_ms + 200 * YEAR_MS
    for kind, command in {
        "list": ("RPUSH", "v:list", *range(500)),
        "set": ("SADD", "v:set", "a", "b"),
        "zset": ("ZADD", "v:zset", 1, "a"),
        "hash": ("HSET", "v:hash", "a", 1),
    }.items():
        yield command
        yield "PEXPIRE", f"v:{kind}", rng.randrange(500_000, 5_000_000)


def field_expiries(now_ms: int) -> Iterator[Command]:
    """Hash field expiry, Valkey 9 and later."""
    for name, fields in (("small", 20), ("large", 2000)):
        key = f"h:fields:{name}"
        yield ("HSET", key, *(part for i in range(fields) for part in (f"f{i}", f"value {i}")))
        for i in range(0, fields, 3):
            yield "HPEXPIREAT", key, now_ms + 3_600_000 + i * 1001, "FIELDS", 1, f"f{i}"
    yield "HSETEX", "h:fields:near", "PX", 20_000, "FIELDS", 2, "soon", 1, "also", 2
    yield "HSET", "h:fields:near", "stays", 3
    yield "HSETEX", "h:fields:all", "EX", 7200, "FIELDS", 1, "only", "x"
    yield "PEXPIRE", "h:fields:all", 9_000_000


def mass(rng: random.Random, keys: int) -> Iterator[Command]:
    """`keys` keys of all types, small values; every seventh with an expiry."""
    for i in range(keys):
        match i % 10:
            case 0 | 1 | 2 | 3:
                yield "SET", f"m:s:{i}", text(rng, rng.randrange(10, 150))
            case 4:
                yield "SET", f"m:i:{i}", rng.randrange(10**9)
            case 5 | 6:
                pairs = [part for f in range(rng.randrange(1, 9)) for part in (f"f{f}", rng.randrange(10**6))]
                yield ("HMSET", f"m:h:{i}", *pairs)
            case 7:
                yield ("RPUSH", f"m:l:{i}", *(rng.randrange(10**6) for _ in range(rng.randrange(1, 12))))
            case 8:
                pairs = [part for f in range(rng.randrange(1, 9)) for part in (rng.random(), f"m{f}")]
                yield ("ZADD", f"m:z:{i}", *pairs)
            case _:
                yield ("SADD", f"m:t:{i}", *(rng.randrange(10**6) for _ in range(rng.randrange(1, 12))))
        if i % 70 == 0:
            yield "SET", f"m:v:{i}", i, "PX", rng.randrange(600_000, YEAR_MS)


def odd_lists(client: redis.Redis, rng: random.Random, version: tuple[int, int]) -> None:
    """Lists whose inner nodes are compressed, and (7.0 and later, where DEBUG is allowed) plain."""
    client.config_set("list-compress-depth", 1)
    send(client, iter([("RPUSH", "l:compressed", *(text(rng, 1500) for _ in range(60)))]))
    client.config_set("list-compress-depth", 0)
    if version < (7, 0):
        return
    with suppress(redis.ResponseError):
        client.execute_command("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "4K")
        send(client, iter([("RPUSH", "l:plain", "a", text(rng, 9000), "b", rng.randbytes(5000), "c")]))
        client.execute_command("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "0")


def libraries(client: redis.Redis, names: Sequence[str] = ("ferry", "river")) -> None:
    """Load function libraries (Redis 7 and later)."""
    for name in names:
        client.execute_command("FUNCTION", "LOAD", "REPLACE", LIBRARY.format(name=name))


def send(client: redis.Redis, commands: Iterator[Command], batch: int = 500) -> int:
    """Pipeline the commands; how many there were. Raises the first error a server answers."""
    count = 0
    with client.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
            count += 1
            if count % batch == 0:
                pipe.execute()
        pipe.execute()
    return count


def fill(client: redis.Redis, keys: int = 2000, *, seed: int = 0, dbs: Sequence[int] = DBS) -> int:
    """Fill databases `dbs` of the client's server: all types and encodings in each, and `keys` more in all.

    Returns the number of keys that the server then holds in them.
    """
    valkey, version = capabilities(client)
    now_ms = time.time_ns() // 1_000_000
    held = 0
    for place, db in enumerate(dbs):
        rng = random.Random(seed * 1000 + db)
        with sibling(client, db) as here:
            for part in (strings, lists, sets, zsets, hashes):
                send(here, part(rng))
            odd_lists(here, rng, version)
            if version >= (5, 0):
                send(here, streams(rng, version))
            send(here, volatile(rng, now_ms))
            if valkey and version >= (9, 0):
                send(here, field_expiries(now_ms))
            send(here, mass(rng, keys // len(dbs) + (keys % len(dbs) if place == 0 else 0)))
            held += int(here.dbsize())
    if version >= (7, 0):
        libraries(client)
    return held
