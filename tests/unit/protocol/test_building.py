"""RESTORE of the stream with a payload that is not held: it takes effect once and whole, from the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import redis

from sync_tasks.errors import CannotContinue, ConnectionLost, Malformed, Side, UnsupportedType
from sync_tasks.names import built_key
from sync_tasks.spec import TaskSpec
from tests.servers import Server, start
from tests.unit.codec.dataset import shown
from tests.unit.protocol.conftest import REPLID, TASK, UID, Followed, endpoint, until
from workers import building
from workers.building import built_keys
from workers.clock import Clock
from workers.codec import crc64
from workers.codec.reads import Reads
from workers.codec.resp_cy import arguments, encode
from workers.fence import remove_keys
from workers.rewrite import Rewriter
from workers.scope import Scope
from workers.spool import long as long_module
from workers.spool.log import Block, Log
from workers.target.knows import Knows
from workers.target.windows import Window
from workers.translate import Translator

FAR_MS = 1 << 42
EXTENDED = replace(TASK, spec=TaskSpec(extend_expiry_s=3600))
FILL = {
    b"hash": "for i = 1, 60000 do redis.call('HSET', KEYS[1], 'f' .. i, string.rep(i, 60)) end",
    b"list": "for i = 1, 60000 do redis.call('RPUSH', KEYS[1], i .. string.rep(i * 7, 60)) end",
    b"set": "for i = 1, 60000 do redis.call('SADD', KEYS[1], string.rep(i, 60)) end",
    b"zset": "for i = 1, 60000 do redis.call('ZADD', KEYS[1], i / 3, string.rep(i, 60)) end",
    b"stream": "for i = 1, 60000 do redis.call('XADD', KEYS[1], i .. '-1', 'f' .. i, string.rep(i, 60)) end",
}


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, Server]]:
    with start("redis-7.0") as same, start("redis-6.2") as older:
        yield {"redis-7.0": same, "redis-6.2": older}


@pytest.fixture(scope="module")
def large(source: Server) -> redis.Redis:
    client = source.client()
    client.config_set("rdbcompression", "no")
    for key, body in FILL.items():
        client.eval(body, 1, key)
    client.set(b"string", bytes(range(256)) * (70 << 10))
    client.xgroup_create("stream", "g", id="0")
    client.xreadgroup("g", "alice", {"stream": ">"}, count=60)
    return client


def read(client: redis.Redis, key: bytes, kind: str) -> object:
    if key == b"stream":
        return shown(client, key, kind != "redis-6.2")
    how = {b"hash": client.hgetall, b"set": client.smembers}
    every = {b"list": client.lrange, b"zset": partial(client.zrange, withscores=True)}
    return how[key](key) if key in how else every[key](key, 0, -1)


def feed(stream: Followed, *commands: list[bytes]) -> None:
    """As it comes: in pieces."""
    for argv in commands:
        data = encode(argv)
        for at in range(0, len(data), 256 << 10):
            stream.log.append(data[at : at + (256 << 10)], time.time_ns() // 1_000_000)


@pytest.mark.parametrize("kind", ["redis-7.0", "redis-6.2"])
def test_large_values_are_restored(
    kind: str, targets: dict[str, Server], large: redis.Redis, follow: Callable[..., Followed]
) -> None:
    target, last = targets[kind], b"60001-0" if kind == "redis-7.0" else b"60002-0"
    with target.client() as client:
        client.flushall()
        stream = follow(target, task=EXTENDED)
        feed(stream, [b"SELECT", b"0"], [b"SET", b"hash", b"old"])
        payloads = {key: large.dump(key) for key in (*FILL, b"string")}
        assert min(map(len, payloads.values())) > 2 * long_module.HELD_BYTES
        restores = {
            key: [b"RESTORE", key, b"0", payload, b"REPLACE"] for key, payload in payloads.items()
        }
        restores[b"zset"][2:5] = [b"%d" % FAR_MS, payloads[b"zset"], b"ABSTTL"]
        feed(stream, [b"INCR", b"n"], *list(restores.values())[:4], [b"HSET", b"hash", b"more", b"1"], [b"INCR", b"n"])
        # A transaction with two of them, one in another database, and what counts on them behind.
        feed(
            stream, [b"MULTI"], restores[b"stream"], [b"XADD", b"stream", last, b"f", b"v"], [b"SELECT", b"3"],
            restores[b"string"], [b"APPEND", b"string", b"end"], [b"SELECT", b"0"], [b"INCR", b"n"], [b"EXEC"],
        )  # fmt: skip
        assert until(lambda: client.get("n") == b"3", 60), (stream.port.events, stream.port.failures, client.keys())
        large.hset("hash", "more", "1")
        large.xadd("stream", {"f": "v"}, id=last)
        large.pexpireat("zset", FAR_MS)
        for key in FILL:
            assert read(client, key, kind) == read(large, key, kind), key
        with target.client(db=3) as other:
            assert other.get("string") == large.get("string") + b"end"
            assert not other.keys("keyferry:tmp:*")
        large.hdel("hash", "more")
        large.xdel("stream", last)
        assert client.pttl("zset") > 0
        assert client.pttl("hash") == -1
        assert not client.keys("keyferry:tmp:*")
        calls = client.info("commandstats")
        assert calls["cmdstat_rename"]["calls"] == 6
        assert "cmdstat_restore" not in calls


def test_a_death_in_the_middle_leaves_nothing_behind(
    targets: dict[str, Server], large: redis.Redis, follow: Callable[..., Followed], monkeypatch: pytest.MonkeyPatch
) -> None:
    target, deaths = targets["redis-7.0"], []
    whole = building.grouped

    def cut(*args: object) -> Iterator[tuple[bytes, int]]:
        for number, part in enumerate(whole(*args)):  # type: ignore[arg-type]
            if number == 40 and len(deaths) < 2:
                deaths.append(client.llen(built_key(UID, 0, 0)))
                raise ConnectionLost("the target hung up", side=Side.TARGET)
            yield part

    monkeypatch.setattr(building, "grouped", cut)
    with target.client() as client:
        client.flushall()
        stream = follow(target, task=EXTENDED)
        feed(stream, [b"SELECT", b"0"], [b"RESTORE", b"list", b"0", large.dump(b"list")], [b"RPUSH", b"list", b"end"])
        assert until(lambda: client.lindex("list", -1) == b"end", 60)
        assert client.lrange("list", 0, -2) == large.lrange("list", 0, -1)
        assert all(0 < length < 60000 for length in deaths)
        assert len(deaths) == 2
        assert not client.keys("keyferry:tmp:*")


def test_a_value_whose_pieces_are_emptied_on_the_way_is_reported_as_refused(
    targets: dict[str, Server], large: redis.Redis, follow: Callable[..., Followed]
) -> None:
    """FLUSHALL of the same transaction takes what was built along: the rename is refused, its key copied anew."""
    target = targets["redis-7.0"]
    with target.client() as client:
        client.flushall()
        stream = follow(target, task=EXTENDED)
        feed(
            stream, [b"SELECT", b"0"], [b"MULTI"], [b"FLUSHALL"], [b"RESTORE", b"set", b"0", large.dump(b"set")],
            [b"SET", b"n", b"1"], [b"EXEC"],
        )  # fmt: skip
        assert until(lambda: any("refused: " in event and "RESTORE set" in event for event in stream.port.events))
        assert client.get("n") == b"1"


def test_what_was_left_is_removed_with_the_rest(targets: dict[str, Server]) -> None:
    target = targets["redis-7.0"]
    with target.client(db=2) as client:
        client.flushall()
        client.rpush(built_keys(UID, 0)[63], "piece")
        client.rpush("list", "stays")
        assert remove_keys(endpoint(target), TASK, [], 0, [0]) == 1
        assert client.keys("*") == [b"list"]


# --- what no command rebuilds


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is long is short here."""
    monkeypatch.setattr(long_module, "ARGUMENT_BYTES", 30)
    monkeypatch.setattr("workers.translate.HELD_BYTES", 60)


def payload(kind: int, version: int, value: bytes = b"v" * 200) -> bytes:
    body = bytes([kind]) + value + version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


def translated(directory: Path, reads: Reads, *stream: list[bytes]) -> list[Window]:
    log = Log(directory)
    log.reset(REPLID, 0)
    rewriter = Rewriter(
        Scope(None), Clock(0, now_ms=lambda: 0), 0, lambda _: [], lambda *_: None, print, Knows(reads),
        temporary=partial(built_key, "uid", 7),
    )  # fmt: skip
    made = Translator(0, 0, rewriter, log)
    for data in map(encode, stream):
        for at in range(0, len(data), 50):
            start = log.end or 0
            log.append(data[at : at + 50], 1)
            made.feed(Block(start, 1, 0, REPLID, data[at : at + 50]))
    last = made.take()
    return [*made.full, *([last] if last else [])]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("wrote", "reads", "states"), [(11, 11, 11), (12, 11, 11), (10, 80, 10), (80, 10, 10)])
def test_values_of_modules_are_poured_stating_what_the_target_takes(
    wrote: int, reads: int, states: int, tmp_path: Path
) -> None:
    argv = [b"RESTORE", b"graph", b"%d" % FAR_MS, payload(7, wrote), b"REPLACE", b"ABSTTL"]
    (window,) = translated(tmp_path, Reads(reads), [b"SET", b"a", b"1"], argv, [b"SET", b"a", b"2"])[1:2]
    assert not window.ahead
    assert len(window.body) < 150
    found = arguments(b"".join(window.pieces()), 0)
    assert found[:2] == [b"RESTORE", b"graph"]
    assert int(found[2]) > FAR_MS, "held"
    assert found[3] == payload(7, states)
    assert found[4:] == [b"REPLACE", b"ABSTTL"]
    assert window.command(0)[0][:2] == [b"RESTORE", b"graph"]


@pytest.mark.usefixtures("small")
def test_an_array_for_a_target_without_such_a_type_stops_the_task(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedType, match=r"b'array' is of type 28"):
        translated(tmp_path, Reads(80), [b"RESTORE", b"array", b"0", payload(28, 14)])
    (window,) = translated(tmp_path / "same", Reads(14), [b"RESTORE", b"array", b"0", payload(28, 14)])
    assert arguments(b"".join(window.pieces()), 0)[3] == payload(28, 14)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("options", [[b"x" * 100], []])
def test_a_restore_without_sense_is_malformed(options: list[bytes], tmp_path: Path) -> None:
    value = payload(4, 11) if options else b"1"
    with pytest.raises(Malformed, match="stream offset 0"):
        translated(tmp_path, Reads(11), [b"RESTORE", b"k", b"0" if options else b"9" * 100, value, *options])


@pytest.mark.usefixtures("small")
def test_no_transaction_has_more_than_names(tmp_path: Path) -> None:
    one = [b"RESTORE", b"k", b"0", payload(4, 11)]
    windows = translated(tmp_path, Reads(11), [b"MULTI"], *[one] * building.MOST, [b"EXEC"], one)
    assert [len(window.ahead) for window in windows] == [building.MOST, 1]
    names = [arguments(encode(argv), 0)[1] for argv in ([b"", name] for name in built_keys("uid", 7))]
    assert [windows[0].body.count(name + b"\r") for name in names] == [1] * building.MOST
    with pytest.raises(CannotContinue, match="over 64 RESTORE"):
        translated(tmp_path / "more", Reads(11), [b"MULTI"], *[one] * (building.MOST + 1))
