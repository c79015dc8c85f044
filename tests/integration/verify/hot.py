"""Keys that never rest: `python -m tests.integration.verify.hot PORT` writes to a few until it is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from tests.integration.verify.copies import wait_until
from tests.servers import Server, die_with_parent

FIELDS = 30_000  # of the large hash, and members and entries of the others
EVERY_S = 0.001  # seconds between two batches: each key changes some hundred times a second


def prepare(client: redis.Redis) -> None:
    """Large values, to be written to without a pause."""
    pipe = client.pipeline(transaction=False)
    pipe.set("hot:counter", 0)
    pipe.hset("hot:hash", mapping={f"f{i}": i for i in range(FIELDS)})
    pipe.sadd("hot:set", *(f"member {i}" for i in range(FIELDS)))
    pipe.zadd("hot:zset", {f"member {i}": i for i in range(FIELDS)})
    pipe.rpush("hot:list", *(f"item {i}" for i in range(FIELDS)))
    pipe.setrange("hot:bitmap", 2_000_000, "end")
    for i in range(1, FIELDS):
        pipe.xadd("hot:stream", {"i": i}, id=f"{i}-1")
    pipe.xgroup_create("hot:stream", "g", "$")
    pipe.execute()


def write(client: redis.Redis) -> None:
    """One batch after the other, for ever."""
    turn = FIELDS
    while True:
        pipe = client.pipeline(transaction=False)
        for _ in range(5):
            turn += 1
            pipe.incr("hot:counter")
            pipe.hincrby("hot:hash", "f1", 1)
            pipe.hset("hot:hash", f"f{turn * 7919 % FIELDS | 2}", turn)
            pipe.sadd("hot:set", f"new {turn}")
            pipe.srem("hot:set", f"new {turn - 50}")
            pipe.zincrby("hot:zset", 0.1, "member 1")
            pipe.lpush("hot:list", turn)
            pipe.rpop("hot:list")
            pipe.setbit("hot:bitmap", turn * 7919 % 16_000_000, 1)
            pipe.xadd("hot:stream", {"i": turn}, id=f"{turn}-1")
            pipe.xtrim("hot:stream", maxlen=FIELDS, approximate=False)
            pipe.xreadgroup("g", "c", {"hot:stream": ">"}, count=1)
            pipe.set("hot:session", turn, px=1_000_000 + turn)
            pipe.rpush("hot:small", turn)
            pipe.ltrim("hot:small", -10, -1)
            pipe.set("hot:flicker", turn)
            pipe.delete("hot:flicker")
        pipe.execute()
        time.sleep(EVERY_S)


@contextmanager
def writing(server: Server) -> Iterator[None]:
    """Write in a process of its own for as long as the block runs."""
    command = [sys.executable, "-m", "tests.integration.verify.hot", str(server.port)]
    process = subprocess.Popen(command, preexec_fn=die_with_parent)
    try:
        wait_until(lambda: int(server.client().get("hot:counter") or 0) > 100)
        yield
        assert process.poll() is None, "the writer has died"
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    write(redis.Redis(port=int(sys.argv[1]), protocol=2))
