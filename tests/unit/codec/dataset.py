"""Fills a real server with every type in every encoding it has, and reads keys back for comparison."""

from __future__ import annotations

import random
from typing import Any

import redis

FAR = 1 << 41  # ms: an expiry in 2039
EXPECTED = {
    "redis-6.2": {0, 2, 4, 5, 11, 12, 13, 14, 15},
    "redis-7.0": {0, 2, 4, 5, 11, 16, 17, 18, 19},
    "redis-8.2": {0, 2, 4, 5, 11, 16, 17, 18, 20, 21, 24, 25},
    "valkey-8.1": {0, 2, 4, 5, 11, 16, 17, 18, 20, 21},
    "valkey-9.1": {0, 2, 4, 5, 11, 16, 17, 18, 20, 21, 22},
}
"""RDB types that each kind of server writes."""
TIMED = ("redis-8.2", "valkey-9.1")
"""Servers whose hash fields may expire."""


def fill(client: redis.Redis, kind: str) -> None:
    """Database 0 and 9; some keys expire."""
    rng = random.Random(kind)
    for db in (0, 9):
        client.execute_command("SELECT", db)
        _strings(client, rng)
        _containers(client, rng)
        _stream(client)
        if kind != "redis-6.2":
            client.execute_command("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "200B")
            client.rpush("list:plain", b"s", rng.randbytes(500), b"y" * 9000, b"t")
            client.execute_command("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "0")
            client.execute_command("FUNCTION", "LOAD", "REPLACE", _function("short"))
            client.execute_command("FUNCTION", "LOAD", "REPLACE", _function("long" * 30))
        if kind in TIMED:
            _timed_hashes(client)
        for i, key in enumerate(sorted(client.keys())):
            if i % 3 == 0:
                client.pexpireat(key, FAR + i)
    client.execute_command("SELECT", 0)


def _function(name: str) -> str:
    return f"#!lua name={name}\nredis.register_function('{name}', function() return 1 end)"


def _strings(client: redis.Redis, rng: random.Random) -> None:
    texts = [b"", b"a", b"0", b"00", b"-0", b"127", b"128", b"-128", b"-129", b"32768", b"-32769", b"2147483647"]
    texts += [b"2147483648", b"-2147483649", b"9223372036854775807", b"1e5", b" 1", b"x" * 21, b"xy" * 100_000]
    texts += [rng.randbytes(n) for n in (63, 64, 16383, 16384, 65535, 65536, 200_000)]
    for i, text in enumerate(texts):
        client.set(f"string:{i}", text)
    client.set(b"\x00\xff binary key\r\n", b"\r\n$5\r\n")
    client.set(b"long key " * 40, b"v")
    client.set("{tag}1", b"1")
    client.set("12345", b"integer key")
    client.setbit("bits", 100_000, 1)
    client.pfadd("hll", *range(2000))


def _containers(client: redis.Redis, rng: random.Random) -> None:
    small = [b"", b"a", b"12", b"-3", b"5000", b"-70000", b"3000000000", b"-9000000000000000000", b"z" * 60]
    large = [rng.randbytes(rng.randrange(1, 90)).hex().encode() for _ in range(1500)] + [b"q" * 5000]
    ints = [0, 1, -1, 127, -32768]
    client.rpush("list:small", *small)
    client.rpush("list:large", *large, *range(1000), b"r" * 20_000)
    client.rpush("list:borders", *(b"x" * n for size in (127, 4096, 16383) for n in range(size - 7, size + 3)))
    client.sadd("set:16", *ints)
    client.sadd("set:32", *ints, 1 << 20)
    client.sadd("set:64", *ints, -(1 << 40))
    client.sadd("set:small", *small)
    client.sadd("set:large", *large)
    client.sadd("set:many", *range(2000))
    client.hset("hash:small", mapping=dict.fromkeys(small, b"v") | {b"n": b"17", b"m": b"-900000"})
    client.hset("hash:large", mapping={field: field[:9] for field in large})
    client.hset("hash:long", mapping={b"f": b"v" * 100, b"g": b"12"})
    scores = [0.0, -0.0, 1.0, -1.5, 1 / 3, 1e300, 5e-324, float("inf"), float("-inf"), 1e17, 123456789.125]
    client.zadd("zset:small", {b"m%d" % i: score for i, score in enumerate(scores)})
    client.zadd("zset:large", {m: scores[i % len(scores)] + i for i, m in enumerate(large)})


def _stream(client: redis.Redis) -> None:
    for i in range(300):
        client.xadd("stream", {"n": i, "text": "t" * (i % 50)}, id=f"{i + 1}-{i % 3 + 1}")
    client.xadd("stream", {"other": "fields", "n": 1}, id="400-0")
    client.xdel("stream", "7-1", "8-2")
    for group in ("one", "two"):
        client.xgroup_create("stream", group, id="0")
        client.xreadgroup(group, "alice", {"stream": ">"}, count=100)
        client.xreadgroup(group, "bob", {"stream": ">"}, count=3)
        client.xack("stream", group, "1-1", "3-3")
    client.xgroup_create("empty stream", "group", id="$", mkstream=True)


def _timed_hashes(client: redis.Redis) -> None:
    client.hset("timed:small", mapping={"a": "1", "b": "2", "c": "x" * 100})
    client.execute_command("HPEXPIREAT", "timed:small", FAR, "FIELDS", 2, "a", "c")
    client.hset("timed:tiny", mapping={"a": "1", "b": "2", "never": "3"})
    client.execute_command("HPEXPIREAT", "timed:tiny", FAR, "FIELDS", 1, "b")
    client.hset("timed:large", mapping={f"f{i}": f"v{i}" * (i % 40) for i in range(2000)})
    for i in range(10):
        fields = [f"f{n}" for n in range(i * 100, i * 100 + 80)]
        client.execute_command("HPEXPIREAT", "timed:large", FAR + i, "FIELDS", len(fields), *fields)


def content(client: redis.Redis, key: bytes) -> Any:
    """A value in an order that does not depend on the server's hash seed."""
    kind = client.type(key)
    if kind == b"string":
        return client.get(key)
    if kind == b"list":
        return client.lrange(key, 0, -1)
    if kind == b"set":
        return client.smembers(key)
    if kind == b"zset":
        return [(m, s.hex()) for m, s in client.zrange(key, 0, -1, withscores=True)]
    if kind == b"hash":
        return client.hgetall(key), _field_times(client, key)
    return client.dump(key)


def _field_times(client: redis.Redis, key: bytes) -> dict[bytes, int]:
    if not key.startswith(b"timed:"):
        return {}
    fields = client.hkeys(key)
    times = client.execute_command("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
    return dict(zip(fields, times, strict=True))


def shown(client: redis.Redis, key: bytes, counters: bool) -> Any:
    """What a server tells of a stream, but for its layout and when consumers were seen."""

    def table(flat: list[Any]) -> dict[bytes, Any]:
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def only(full: dict[bytes, Any], *names: bytes) -> list[Any]:
        return [full.get(name) for name in names]

    full = table(client.execute_command("XINFO", "STREAM", key, "FULL", "COUNT", 0))
    counts = (b"entries-added", b"max-deleted-entry-id", b"recorded-first-entry-id") if counters else ()
    groups = []
    for group in map(table, full[b"groups"]):
        name, kept = group[b"name"], (b"last-delivered-id", *((b"entries-read",) if counters else ()))
        consumers = sorted(table(consumer)[b"name"] for consumer in group[b"consumers"])
        pel = [tuple(one) for one in group.get(b"pel", group.get(b"pending"))]
        groups.append((name, only(group, *kept), consumers, pel))
    return client.xrange(key), only(full, b"length", b"last-generated-id", *counts), groups
