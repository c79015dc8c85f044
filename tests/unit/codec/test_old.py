"""What no obtainable server writes any more, from the description of the formats; real servers judge the values."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from sync_tasks.errors import Malformed
from tests.servers import start
from tests.unit.codec.forms import form
from tests.unit.codec.newer import HELD, NAMES, of_array, of_listpack, template
from tests.unit.codec.old import EXPIRES, VERSIONS, kinds, old
from tests.unit.codec.rdb import commands, entry, frame, rdb
from tests.unit.codec.samples import MEANINGS, VALUES

READ = {"redis-6.2": 15, "redis-7.0": 18, "redis-8.2": 21, "valkey-8.1": 21, "valkey-9.1": 21}
"""Server to the last type of both families that it reads."""
OLDEST_READER = {5: 8, 14: 7, 16: 10, 17: 10, 18: 10, 20: 11}
"""Type to the RDB version that its payload must state at least."""


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_framed(codec: Any, version: int) -> None:
    data = old(version)
    framed = frame(codec.Framer(4), 4, data + b"rest")
    assert framed.events[0] == ("version", "REDIS", version)
    assert framed.events[-1] == ("end", int.from_bytes(data[-8:], "little") if version >= 5 else 0)
    assert framed.rest == b"rest"
    assert framed.entries() == {
        (db, b"k%d" % kind): (1000 * EXPIRES if kind % 2 else -1, bytes([kind]) + VALUES[kind])
        for kind in kinds(version)
        for db in (0, 3)
    }


@pytest.mark.parametrize("version", [1, 2, 4, 6])
def test_truncated_anywhere_it_waits(codec: Any, version: int) -> None:
    data = old(version)
    for cut in range(0, len(data), 1 if codec is form("compiled") else 17):
        framed = frame(codec.Framer(4), 4, data[:cut])
        assert not framed.events or framed.events[-1][0] != "end"


def _outcome(codec: Any, data: bytes) -> Any:
    try:
        framed = frame(codec.Framer(4), 4, data)
    except Malformed as error:
        return error.message, error.offset
    return framed.events, framed.buffers


@pytest.mark.parametrize("version", [1, 4, 6])
def test_a_flipped_byte_is_a_typed_error_or_harmless_and_the_same_in_both_forms(version: int) -> None:
    rng = random.Random(version)
    data = old(version)[: -8 if version >= 5 else None] + bytes(8)
    refused = 0
    for at in range(9, len(data) - 8):
        flipped = bytearray(data)
        flipped[at] ^= rng.randrange(1, 256)
        found = _outcome(form("compiled"), bytes(flipped))
        refused += isinstance(found[0], str)
        if at % 40 == 0:
            assert found == _outcome(form("plain"), bytes(flipped))
    assert refused > 20


@pytest.fixture(scope="module", params=sorted(READ))
def judge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    with start(request.param, dir=tmp_path_factory.mktemp(request.param)) as server:
        yield request.param, server.client()


def _restore(client: redis.Redis, framed: Any, version: int) -> None:
    for buf in framed.buffers.values():
        out, _, pos = form("compiled").RestoreEncoder(version).encode(buf, 0, 100, 1 << 24)
        assert pos == len(buf)
        for argv in commands(out):
            assert client.execute_command(*argv) == b"OK"


def _meaning(client: redis.Redis, key: bytes) -> object:
    kind = client.type(key)
    if kind == b"list":
        return client.lrange(key, 0, -1)
    if kind == b"set":
        return client.smembers(key)
    if kind == b"hash":
        return client.hgetall(key)
    if kind == b"zset":
        return dict(client.zrange(key, 0, -1, withscores=True))
    return client.get(key)


def test_a_server_reads_what_was_written(judge: tuple[str, Any]) -> None:
    """The framed payload of each encoding, and the version that first had it behind it."""
    kind, client = judge
    for type_ in sorted(MEANINGS):
        if type_ > READ[kind]:
            continue
        version = max(6, OLDEST_READER.get(type_, 6))
        client.flushall()
        _restore(client, frame(form("compiled").Framer(1), 1, rdb(entry(b"key", type_, VALUES[type_]))), version)
        assert _meaning(client, b"key") == MEANINGS[type_], type_


def test_a_server_reads_a_hash_of_a_template_that_was_made_plain(judge: tuple[str, Any]) -> None:
    client = judge[1]
    client.flushall()
    parts = [template(5, NAMES), entry(b"lp", 30, of_listpack(5, HELD)), entry(b"array", 32, of_array(5, HELD))]
    _restore(client, frame(form("compiled").Framer(1), 1, rdb(*parts, magic=b"REDIS0015")), 6)
    assert client.hgetall(b"lp") == client.hgetall(b"array") == dict(zip(NAMES, HELD, strict=True))
