"""Streams that are built by commands: as real servers show them, and what is no stream."""

from __future__ import annotations

import io
import random
from typing import Any

import pytest
import redis

from sync_tasks.errors import Malformed, UnsupportedType
from tests.servers import Server, start
from tests.unit.codec.dataset import shown
from tests.unit.codec.newer import PAST, later_stream

KINDS = ("redis-6.2", "redis-7.0", "redis-8.2", "valkey-8.1", "valkey-9.1")


def entries(client: redis.Redis) -> None:
    for i in range(1, 400):
        client.xadd("entries", {"n": i, "text": "t" * (i % 50)}, id=f"{i}-{i % 3 + 1}")
    client.xadd("entries", {"other": "fields", "n": -1, "": ""}, id="400-0")
    client.xadd("entries", {"n": "9223372036854775807"}, id="400-18446744073709551615")
    client.xdel("entries", "7-2", "8-3", "400-0")


def pending(client: redis.Redis) -> None:
    """Read by several, in parts, some of it twice; then deleted here and there, and trimmed."""
    for i in range(1, 101):
        client.xadd("pending", {"n": i}, id=f"{i}-0")
    for group in ("one", b"\x00two"):
        client.xgroup_create("pending", group, id="0")
        client.xreadgroup(group, "alice", {"pending": ">"}, count=60)
        client.xreadgroup(group, "bob", {"pending": ">"}, count=30)
        client.xack("pending", group, "1-0", "33-0")
        client.xclaim("pending", group, "carol", 0, ["5-0", "6-0", "61-0"])
        client.xclaim("pending", group, "carol", 0, ["7-0"], time=1_600_000_000_123, retrycount=77, force=True)
        client.execute_command("XGROUP", "CREATECONSUMER", "pending", group, "idle")
    client.xdel("pending", "5-0", "50-0", "51-0", "95-0")
    client.xtrim("pending", minid="4-0", approximate=False)


def trimmed(client: redis.Redis) -> None:
    """Nothing was deleted, but what is pending is gone."""
    for i in range(1, 11):
        client.xadd("trimmed", {"n": i}, id=f"{i}-0")
    client.xgroup_create("trimmed", "g", id="0")
    client.xreadgroup("g", "alice", {"trimmed": ">"}, count=8)
    client.xtrim("trimmed", maxlen=4, approximate=False)


def emptied(client: redis.Redis) -> None:
    client.xadd("emptied", {"n": 1}, id="5-5")
    client.xgroup_create("emptied", "g", id="0")
    client.xreadgroup("g", "alice", {"emptied": ">"})
    client.xdel("emptied", "5-5")


def never_filled(client: redis.Redis) -> None:
    client.xgroup_create("never filled", "g", id="3-4", mkstream=True)
    client.xgroup_create("nothing", "g", id="0", mkstream=True)
    client.xgroup_destroy("nothing", "g")
    client.xadd("set id", {"n": 1}, id="1-1")
    client.xdel("set id", "1-1")
    client.execute_command("XSETID", "set id", "1000-7")


@pytest.fixture
def server(servers: dict[str, Server]) -> Any:
    """An empty one of a kind."""

    def begin(kind: str, place: str) -> redis.Redis:
        if (kind + place) not in servers:
            servers[kind + place] = start(kind)
            servers[kind + place].__enter__()
        client = servers[kind + place].client()
        client.flushall()
        return client

    return begin


def build(codec: Any, payload: bytes, client: redis.Redis, key: bytes, counters: bool) -> int:
    value = io.BytesIO(payload[1:-10])
    number = 0
    for name, args in codec.stream_pieces(value.read, lambda: value.seek(0), payload[0], counters):
        client.execute_command(*name.split(), key, *args)
        number += 1
    return number


@pytest.mark.parametrize(
    ("kind", "to"), [(kind, to) for kind in KINDS for to in dict.fromkeys((kind, "redis-6.2", "valkey-9.1"))]
)
def test_what_servers_show(codec: Any, server: Any, kind: str, to: str) -> None:
    source, target = server(kind, "source"), server(to, "target")
    for make in (entries, pending, trimmed, emptied, never_filled):
        make(source)
    counters = "redis-6.2" not in (kind, to)
    for key in source.scan_iter():
        build(codec, source.dump(key), target, key, counters)
        assert shown(target, key, counters) == shown(source, key, counters), key


def test_it_ends_the_same_when_done_twice(codec: Any, server: Any) -> None:
    """The commands are deterministic; of a value in one block or in many."""
    source = server("redis-7.0", "source")
    pending(source)
    payload = source.dump("pending")
    whole, dribbled = io.BytesIO(payload[1:-10]), io.BytesIO(payload[1:-10])
    rng = random.Random(1)
    once = list(codec.stream_pieces(whole.read, lambda: whole.seek(0), payload[0]))
    again = list(
        codec.stream_pieces(lambda n: dribbled.read(rng.randint(1, min(n, 9))), lambda: dribbled.seek(0), payload[0])
    )
    assert once == again
    assert [args for name, args in once if name == b"XCLAIM" and b"77" in args]


def test_what_is_pending_is_claimed_together(codec: Any, server: Any) -> None:
    source = server("redis-7.0", "source")
    pending(source)
    payload = source.dump("pending")
    value = io.BytesIO(payload[1:-10])
    found = codec.stream_pieces(value.read, lambda: value.seek(0), payload[0])
    claims = [args for name, args in found if name == b"XCLAIM"]
    assert max(map(len, claims)) > 30


def test_damaged_streams(codec: Any, server: Any) -> None:
    """Each ends in the typed error, or is a stream that some server might have; nothing else is raised."""
    source = server("redis-7.0", "source")
    pending(source)
    emptied(source)
    rng = random.Random(7)
    where = []
    for key in source.scan_iter():
        payload = source.dump(key)
        body = payload[1:-10]
        for _ in range(400):
            damaged = bytearray(body)
            for _ in range(rng.randint(1, 3)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            cut = bytes(damaged[: rng.randint(0, len(damaged))] if rng.random() < 0.3 else damaged)
            value = io.BytesIO(cut)
            try:
                for _ in codec.stream_pieces(value.read, lambda value=value: value.seek(0), payload[0]):
                    pass
            except Malformed as error:
                where.append(error.offset / (len(cut) + 1))
    assert len(where) > 400
    assert all(0 <= part < 1 for part in where)


def test_what_is_no_stream(codec: Any) -> None:
    with pytest.raises(UnsupportedType):
        next(codec.stream_pieces(io.BytesIO(b"").read, lambda: None, 28))
    with pytest.raises(Malformed):
        next(codec.stream_pieces(io.BytesIO(b"").read, lambda: None, 15))


@pytest.mark.parametrize("to", ["redis-6.2", "redis-7.0", "valkey-9.1"])
@pytest.mark.parametrize(("kind", "lost"), [(26, 2), (27, 2 + 10)])
def test_streams_of_later_redis(codec: Any, server: Any, kind: int, lost: int, to: str) -> None:
    """Producers, and what is pending of nobody, are left out and counted; all else is there."""
    target, value, left_out = server(to, "target"), io.BytesIO(later_stream(kind, 120, b"text")), []
    found = codec.stream_pieces(value.read, lambda: value.seek(0), kind, to != "redis-6.2", left_out.append)
    for name, args in found:
        target.execute_command(*name.split(), "later", *args)
    assert left_out == [lost]
    entries, info, groups = shown(target, b"later", to != "redis-6.2")
    assert entries == [(b"%d-0" % i, {b"field": b"text"}) for i in range(1, 121)]
    assert info[:2] == [120, b"120-0"]
    ((name, told, consumers, pel),) = groups
    assert (name, told[0], consumers) == (b"group", b"40-0", [b"alice", b"bob"])
    assert to == "redis-6.2" or (told[1], info[2]) == (40, 120)
    assert pel == [(b"%d-0" % i, b"alice", PAST + i, i) for i in range(1, 11)]


@pytest.mark.parametrize("kind", [26, 27])
def test_later_streams_cut_anywhere(codec: Any, kind: int) -> None:
    whole = later_stream(kind, 3, b"v")
    for cut in range(len(whole)):
        value = io.BytesIO(whole[:cut])
        with pytest.raises(Malformed):
            list(codec.stream_pieces(value.read, lambda value=value: value.seek(0), kind))
