"""The codec against real servers: their own DUMP says what is right."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.servers import Server, start
from tests.unit.codec.dataset import EXPECTED, FAR, content, fill
from tests.unit.codec.forms import form
from tests.unit.codec.rdb import Framed, commands, containers, frame

UNORDERED = {2, 4, 22, 24}
"""Types whose order in DUMP depends on the hash seed of the server."""


class Source:
    """A filled server, and what the compiled codec framed of its snapshot."""

    def __init__(self, server: Server) -> None:
        self.server, self.kind = server, server.kind
        self.client = server.client()
        fill(self.client, server.kind)
        self.rdb = snapshot(server)
        self.framed = frame(form("compiled").Framer(5), 5, self.rdb)
        dump = self.client.dump("12345")
        assert isinstance(dump, bytes)
        self.version = int.from_bytes(dump[-10:-8], "little")


def snapshot(server: Server) -> bytes:
    server.client().save()
    return (server.dir / "dump.rdb").read_bytes()


@pytest.fixture(scope="module", params=sorted(EXPECTED))
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    with start(request.param, dir=tmp_path_factory.mktemp(request.param)) as server:
        yield Source(server)


@pytest.fixture
def target(source: Source, tmp_path: Path) -> Iterator[redis.Redis]:
    with start(source.kind, dir=tmp_path) as server:
        client = server.client()
        if source.kind != "redis-6.2":
            client.execute_command("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "200B")
        yield client


def _each(client: redis.Redis) -> Iterator[tuple[int, bytes]]:
    for db in (0, 9):
        client.execute_command("SELECT", db)
        keys = client.keys()
        assert isinstance(keys, list)
        for key in keys:
            yield db, key
    client.execute_command("SELECT", 0)


def _load(codec: Any, source: Source, target: redis.Redis, **holds: int) -> list[list[bytes]]:
    """Encode and send all chunks; the commands."""
    sent: list[list[bytes]] = []
    for (db, _), buf in source.framed.buffers.items():
        target.execute_command("SELECT", db)
        pos, encoder = 0, codec.RestoreEncoder(source.version, **holds)
        while pos < len(buf):
            out, keys, pos = encoder.encode(buf, pos, 16, 1 << 16)
            batch = list(commands(out))
            assert len(batch) == keys
            sent += batch
            for argv in batch:
                assert target.execute_command(*argv) == b"OK"
    target.execute_command("SELECT", 0)
    return sent


def test_all_types_of_the_server_are_there(source: Source) -> None:
    entries = source.framed.entries()
    assert {value[0] for _, value in entries.values()} == EXPECTED[source.kind]
    assert len(entries) == source.framed.keys == sum(1 for _ in _each(source.client))
    strings = {value[1] for _, value in entries.values() if value[0] == 0}
    assert {0xC0, 0xC1, 0xC2, 0xC3, 0x80} <= strings
    if source.kind != "redis-6.2":
        assert set(containers(entries[0, b"list:plain"][1])) == {1, 2}
        functions = [event[1] for event in source.framed.events if event[0] == "function"]
        listed = source.client.execute_command("FUNCTION", "LIST", "WITHCODE")
        assert sorted(functions) == sorted(library[-1] for library in listed)


def test_values_are_what_dump_says(source: Source) -> None:
    for (db, key), (expire, value) in source.framed.entries().items():
        source.client.execute_command("SELECT", db)
        dump = source.client.dump(key)
        assert isinstance(dump, bytes)
        assert value == dump[:-10], key
        footer = value + source.version.to_bytes(2, "little")
        assert form("compiled").crc64(footer) == int.from_bytes(dump[-8:], "little")
        if source.kind != "redis-6.2":
            assert expire == source.client.pexpiretime(key)
        else:
            assert (expire == -1) == (source.client.ttl(key) == -1)
    source.client.execute_command("SELECT", 0)


def test_both_forms_frame_any_split_alike(source: Source) -> None:
    rng = random.Random(3)
    for codec, largest in ((form("compiled"), 300), (form("compiled"), 1 << 18), (form("plain"), 1 << 18)):
        sizes = (rng.randint(1, largest) for _ in range(1 << 30))
        framed = frame(codec.Framer(5), 5, source.rdb + b"tail", sizes)
        assert framed.told() == source.framed.told()
        assert framed.buffers == source.framed.buffers
    huge = frame(form("compiled").Framer(5, 1 << 10), 5, source.rdb, [7] * 5000)
    assert any(event[0] == "part" for event in huge.events)
    assert huge.entries() == Framed.entries(source.framed)


@pytest.mark.parametrize("name", ["compiled", "plain"])
def test_what_is_loaded_is_what_was_there(source: Source, target: redis.Redis, name: str) -> None:
    sent = _load(form(name), source, target)
    assert {argv[0] for argv in sent} == {b"SET", b"RESTORE"}
    loaded = list(_each(target))
    assert sorted(loaded) == sorted(source.framed.entries())
    for db, key in loaded:
        source.client.execute_command("SELECT", db)
        target.execute_command("SELECT", db)
        assert content(target, key) == content(source.client, key), key
        theirs, ours = source.client.dump(key), target.dump(key)
        assert isinstance(theirs, bytes)
        assert isinstance(ours, bytes)
        if theirs[0] not in UNORDERED:
            assert ours == theirs, key
        assert target.object("encoding", key) == source.client.object("encoding", key)
        if source.kind != "redis-6.2":
            assert target.pexpiretime(key) == source.client.pexpiretime(key)
    source.client.execute_command("SELECT", 0)


def test_times_are_held_on_the_target(source: Source, target: redis.Redis) -> None:
    hold, field_hold = 1 << 60, 1 << 45
    if source.kind == "redis-8.2":
        field_hold = 0  # that is the transcriber's
    _load(form("compiled"), source, target, key_hold=hold, field_hold=field_hold)
    for db, key in _each(target):
        source.client.execute_command("SELECT", db)
        target.execute_command("SELECT", db)
        if source.kind == "redis-6.2":  # it tells no absolute times
            left = target.pttl(key)
            assert left > hold - FAR if source.client.pttl(key) != -1 else left == -1
            continue
        time = source.client.pexpiretime(key)
        assert target.pexpiretime(key) == (-1 if time == -1 else time + hold), key
        if key.startswith(b"timed:"):
            times = content(source.client, key)[1]
            assert set(times.values()) - {-1}
            held = {field: -1 if t == -1 else t + field_hold for field, t in times.items()}
            assert content(target, key) == (content(source.client, key)[0], held)
    source.client.execute_command("SELECT", 0)


def test_values_are_rebuilt_from_pieces(source: Source, target: redis.Redis) -> None:
    codec, rebuilt = form("compiled"), set()
    for (db, key), (_, value) in source.framed.entries().items():
        if not codec.can_piece(value[0]):
            continue
        source.client.execute_command("SELECT", db)
        rebuilt.add(value[0])
        target.delete(key)
        for name, args in codec.pieces(io.BytesIO(value[1:]).read, value[0], 1 << 14, 50, 0, source.version):
            target.execute_command(name, key, *args)
        assert content(target, key) == content(source.client, key), key
    source.client.execute_command("SELECT", 0)
    assert rebuilt == EXPECTED[source.kind] - {15, 19, 21}


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu"])
def test_idle_times_and_frequencies_are_passed_over(source: Source, policy: str) -> None:
    source.client.config_set("maxmemory-policy", policy)
    data = snapshot(source.server)
    source.client.config_set("maxmemory-policy", "noeviction")
    opcode = b"\xf8" if policy == "allkeys-lru" else b"\xf9"
    assert data.count(opcode) > source.rdb.count(opcode) + 20
    assert frame(form("compiled").Framer(5), 5, data).entries() == source.framed.entries()


@pytest.mark.parametrize("settings", [{"rdbcompression": "no"}, {"rdbchecksum": "no"}])
def test_without_compression_or_checksum(source: Source, tmp_path: Path, settings: dict[str, str]) -> None:
    with start(source.kind, dir=tmp_path, config=settings) as server:
        fill(server.client(), source.kind)
        framed = frame(form("compiled").Framer(5), 5, snapshot(server))
        assert (framed.events[-1][1] == 0) == ("rdbchecksum" in settings)
        assert set(framed.entries()) == set(source.framed.entries())


def test_dump_of_a_hash_with_times(tmp_path: Path) -> None:
    """The layout that the hold patches: field, value, eight bytes of ms or -1."""
    with start("valkey-9.1", dir=tmp_path) as server:
        fill(server.client(), "valkey-9.1")
        dump = server.client().dump("timed:small")
    assert isinstance(dump, bytes)
    assert (dump[0], dump[1]) == (22, 3)
    assert dump.count(FAR.to_bytes(8, "little")) == 2
    assert dump.count((-1).to_bytes(8, "little", signed=True)) == 1
