"""That an MSET does what its SETs did, by real servers: values, encodings, times, types, notifications."""

from __future__ import annotations

import random

import pytest
import redis

from tests.conftest import StartServer
from tests.servers import Server
from tests.unit.codec.dataset import EXPECTED
from workers.codec.mset_cy import packed
from workers.codec.resp_cy import arguments, encode

VALUES = [b"", b"7", b"-12345678901", b"0.5", b"short", b"x" * 45, b"y" * 5000, b"\x00\xff"]


def prepared(client: redis.Redis) -> None:
    """Keys of every kind, which the SETs overwrite."""
    client.set("timed", "old", px=10_000_000)
    client.rpush("list", "a")
    client.hset("hash", "a", "b")
    client.zadd("zset", {"a": 1})


def told(server: Server) -> redis.client.PubSub:
    server.client().config_set("notify-keyspace-events", "KEA")
    subscribed = server.client().pubsub()
    subscribed.psubscribe("__key*__:*")
    assert subscribed.get_message(timeout=5)
    return subscribed


def events(subscribed: redis.client.PubSub, last: bytes) -> list[tuple[bytes, bytes]]:
    """What was told up to the `set` of a key."""
    out = []
    while (message := subscribed.get_message(ignore_subscribe_messages=True, timeout=5)) is not None:
        out.append((message["channel"].partition(b":")[2], message["data"]))
        if out[-1] == (b"set", last):
            break
    return out


@pytest.mark.parametrize("kind", sorted(EXPECTED))
def test_it_does_what_they_do(kind: str, server: StartServer) -> None:
    one, other = server(kind), server(kind)
    rng = random.Random(7)
    keys = [b"timed", b"list", b"hash", b"zset", b"new", b"twice"]
    sets = [[b"SET", rng.choice(keys), rng.choice(VALUES)] for _ in range(60)] + [[b"SET", b"last", b"1"]]
    data = b"".join(map(encode, sets))
    ((_, _, count, made),) = packed(data, 0, len(data), 8)
    assert made is not None
    assert count == len(sets)
    seen = []
    for side, commands in ((one, sets), (other, [arguments(made, 0)])):
        client = side.client()
        prepared(client)
        subscribed = told(side)
        for argv in commands:
            client.execute_command(*argv)
        found = {k: (client.dump(k), client.pttl(k), client.object("encoding", k)) for k in sorted(client.keys())}
        told_of = [(a, b) for a, b in events(subscribed, b"last") if b"set" in (a, b)]
        seen.append((found, told_of))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] == seen[1][1]
    assert len(seen[0][1]) >= len(sets)
