"""What the demo moves: a data set with every type, and clients that keep writing to it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import redis

Command = tuple[Any, ...]

DATABASES = (0, 1, 5)
KEYS = 60_000  # small keys, over all databases
LIVE = 200  # keys of each kind that the traffic writes to
LARGE = 20_000  # items of the large values
HOUR_MS = 3_600_000
BRIEF_MS = 500  # the shortest time to live of the live traffic
RATE = 4000  # commands a second of the live traffic
BATCH = 80  # commands sent together


def connect(path: str, db: int = 0) -> redis.Redis:
    """A client of the demo's server behind the unix socket `path`."""
    return redis.Redis(unix_socket_path=path, db=db)


def fill(path: str) -> int:
    """Fill the databases; the number of keys written."""
    count = 0
    for db in DATABASES:
        rng = random.Random(db)  # noqa: S311 - a demo's data, no secret
        with connect(path, db) as client:
            pipe: Any = client.pipeline(transaction=False)
            for number, command in enumerate(_data(rng), 1):
                pipe.execute_command(*command)
                if number % 1000 == 0:
                    pipe.execute()
            pipe.execute()
            count += int(client.dbsize())
    return count


def _data(rng: random.Random) -> Iterator[Command]:
    for i in range(KEYS // len(DATABASES)):
        yield from _small(rng, i)
    yield ("RPUSH", "list:large", *(rng.randbytes(20) for _ in range(LARGE)))
    yield ("HSET", "hash:large", *(part for i in range(LARGE) for part in (f"field:{i}", rng.randbytes(30))))
    yield ("ZADD", "zset:large", *(part for i in range(LARGE) for part in (rng.random(), f"member:{i}")))
    yield ("SADD", "set:large", *(f"member:{i}" for i in range(LARGE)))
    yield ("SADD", "set:numbers", *range(300))
    yield ("PFADD", "estimate", *range(3000))
    yield "SETBIT", "bits", 1_000_000, 1
    yield "GEOADD", "places", 13.36, 38.12, "Palermo", 15.09, 37.5, "Catania"
    for i in range(300):
        yield "XADD", "stream", "*", "number", i
    yield "XGROUP", "CREATE", "stream", "readers", "0"
    yield "XREADGROUP", "GROUP", "readers", "reader-1", "COUNT", 100, "STREAMS", "stream", ">"
    for i in range(100):
        yield "HSETEX", f"hash:volatile:{i}", "PX", HOUR_MS + i, "FIELDS", 1, "token", i


def _small(rng: random.Random, i: int) -> Iterator[Command]:
    match i % 6:
        case 0 | 1:
            yield "SET", f"string:{i}", rng.randbytes(100)
        case 2:
            yield "SET", f"session:{i}", i, "PX", HOUR_MS + rng.randrange(HOUR_MS)
        case 3:
            yield "HSET", f"hash:{i}", "name", f"user {i}", "visits", i
        case 4:
            yield "RPUSH", f"list:{i}", i, "a", "b"
        case _:
            yield "ZADD", f"zset:{i}", i, "a", i / 2, "b"


def forget(path: str) -> None:
    """After the last write: let the source notice what has expired, so that it tells its replicas."""
    time.sleep(BRIEF_MS / 1000)
    for db in DATABASES:
        with connect(path, db) as client:
            client.exists(*(f"live:session:{i}" for i in range(LIVE)))


def _write(rng: random.Random) -> Command:
    """One write: most would show if they were executed twice."""
    i = rng.randrange(LIVE)
    choices: tuple[Command, ...] = (
        ("INCR", f"live:counter:{i}"),
        ("INCRBYFLOAT", f"live:float:{i}", 0.5),
        ("LPUSH", f"live:list:{i}", i),
        ("LPOP", f"live:list:{i}"),
        ("APPEND", f"live:text:{i}", "x"),
        ("SADD", f"live:set:{i}", rng.randrange(1000)),
        ("SPOP", f"live:set:{i}"),
        ("ZINCRBY", f"live:zset:{i}", 1.5, "member"),
        ("HINCRBY", f"live:hash:{i}", "field", 1),
        ("XADD", f"live:stream:{i}", "MAXLEN", "~", 100, "*", "n", i),
        ("SET", f"live:session:{i}", i, "PX", rng.choice((BRIEF_MS, HOUR_MS))),
        ("PEXPIRE", f"live:counter:{i}", HOUR_MS),
        ("RENAME", f"live:list:{i}", f"live:list:{rng.randrange(LIVE)}"),
        ("DEL", f"live:text:{i}"),
    )
    return rng.choice(choices)


def traffic(path: str) -> None:
    """Write until killed: `RATE` commands a second over all databases, and transactions among them."""
    rng = random.Random()  # noqa: S311 - a demo's data, no secret
    clients = [connect(path, db) for db in DATABASES]
    began, sent = time.monotonic(), 0
    while True:
        pipe: Any = rng.choice(clients).pipeline(transaction=rng.random() < 0.2)
        for _ in range(BATCH):
            pipe.execute_command(*_write(rng))
        pipe.execute(raise_on_error=False)
        sent += BATCH
        time.sleep(max(0.0, sent / RATE - (time.monotonic() - began)))
