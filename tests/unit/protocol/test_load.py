"""Loading a chunk: what was recorded of its file is what is loaded, and its loader beats whatever the target does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from zlib_ng.zlib_ng import crc32

from sync_tasks.errors import (
    CannotContinue,
    ConnectionLost,
    ControlError,
    Fenced,
    KeyferryError,
    Retry,
    UnsupportedType,
)
from sync_tasks.names import load_key
from sync_tasks.states import ChunkState
from sync_tasks.throttle import Limits
from sync_tasks.views import ChunkView
from tests.servers import Server, start
from tests.unit.codec.dataset import FAR
from tests.unit.codec.newer import NEWER, later_stream
from tests.unit.codec.rdb import raw
from tests.unit.codec.samples import MEANINGS, VALUES
from tests.unit.protocol.conftest import TASK, UID, endpoint
from tests.unit.protocol.faulty import record
from workers import beat, full
from workers.codec.reads import Reads
from workers.codec.resp_cy import encode
from workers.expiry import HOLD
from workers.full import FencedBatches, load_chunk
from workers.huge import can_build
from workers.spool.chunks import RECORD, TO_THE_END
from workers.spool.damage import is_damaged
from workers.spool.sums import sealed
from workers.spool.tables import write_tables
from workers.target.link import TargetLink


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats come often."""
    monkeypatch.setattr(beat, "BEAT_S", 0.05)


class Chunk:
    """A claimed chunk without a database."""

    limits = Limits()

    def __init__(self, directory: Path, data: bytes, keys: int, *, huge: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "000000.chunk"
        self.path.write_bytes(data)
        write_tables(directory, 10, [], [])
        self.task, self.node_number = TASK, 0
        self.chunk = ChunkView(
            7, 1, 1, 1, 0, 0, 0, huge, str(self.path), keys, len(data), ChunkState.RUNNING, 0, 1
        )  # fmt: skip
        self.beats = 0
        self.lost = False
        self.ended = 0

    def renew(self, keys_done: int) -> None:
        self.beats += 1
        if self.lost:
            raise Fenced("taken away")

    def done(self, keys: int, left_out: str = "") -> None:
        self.ended, self.left_out = keys, left_out

    def load(self, target: Server) -> None:
        load_chunk(self, endpoint(target), 0, 0)


RECORDS = [record(b"k%03d" % i) for i in range(300)]
WHOLE = b"".join(RECORDS)


def test_a_whole_chunk_is_loaded(target: Server, tmp_path: Path) -> None:
    chunk = Chunk(tmp_path / "gen", WHOLE, 300)
    chunk.load(target)
    assert (chunk.ended, chunk.beats) == (300, 2), "it was asked for before its token was made, and once that was there"
    with target.client() as client:
        assert client.dbsize() == 301


@pytest.mark.parametrize(
    "torn",
    [
        b"",
        b"".join(RECORDS[:200]),
        WHOLE[:-5],
        b"".join(RECORDS[:200]) + bytes(len(WHOLE) - 200 * len(RECORDS[0])),
        WHOLE[: 16 + 4] + bytes(len(WHOLE) - 20),
        WHOLE[:-5] + b"\xff" * 5,
        None,
    ],
    ids=["empty", "at the border of a key", "in a key", "zeros", "zeros from a value on", "garbage", "missing"],
)
def test_a_chunk_file_that_lost_something_is_not_done(target: Server, tmp_path: Path, torn: bytes | None) -> None:
    """Done, its lost keys would be missing silently."""
    chunk = Chunk(tmp_path / "gen", WHOLE, 300)
    if torn is None:
        chunk.path.unlink()
    else:
        chunk.path.write_bytes(torn)
    with pytest.raises(KeyferryError):
        chunk.load(target)
    assert not chunk.ended
    with target.client() as client:
        assert not client.hexists(f"keyferry:{UID}:0:marks:1", "0")
    if torn != WHOLE[:-5] + b"\xff" * 5:  # the records are whole: that is the source's word against the disk's
        assert is_damaged(tmp_path / "gen")


@pytest.mark.parametrize("at", [3, 17, -1], ids=["in the expiry", "in the key", "in the value"])
def test_a_flipped_bit_is_found_before_anything_is_written(target: Server, tmp_path: Path, at: int) -> None:
    """Every record would still be whole: a key of another name, value or time would be on the target for good."""
    chunk = Chunk(tmp_path / "gen", WHOLE, 300)
    path = sealed(str(chunk.path), crc32(WHOLE))
    chunk.chunk = replace(chunk.chunk, path=path)
    flipped = bytearray(WHOLE)
    flipped[len(RECORDS[0]) * 100 + at] ^= 1
    Path(path).write_bytes(flipped)
    with pytest.raises(ControlError, match=Path(path).name):
        chunk.load(target)
    assert is_damaged(tmp_path / "gen")
    with target.client() as client:
        assert client.dbsize() == 0
    Path(path).write_bytes(WHOLE)
    chunk.load(target)
    assert chunk.ended == 300


def test_a_file_cut_where_its_row_was_cut_too_ends(target: Server, tmp_path: Path) -> None:
    chunk = Chunk(tmp_path / "gen", WHOLE[:-5], 300)
    with pytest.raises(ControlError, match="in the middle of a key"):
        chunk.load(target)


def test_a_huge_chunk_that_lost_its_end_is_not_done(target: Server, tmp_path: Path) -> None:
    data = RECORD.pack(-1, 1, TO_THE_END) + b"k" + b"\x01\x02" + b"\x01a\x01b"
    chunk = Chunk(tmp_path / "gen", data, 1, huge=True)
    chunk.load(target)
    assert chunk.ended == 1
    chunk = Chunk(tmp_path / "gen", data, 1, huge=True)
    chunk.path.write_bytes(data[:-2])
    with pytest.raises(ControlError, match="bytes"):
        chunk.load(target)
    chunk.path.write_bytes(bytes(len(data)))
    with pytest.raises(ControlError, match="long value"):
        chunk.load(target)


@pytest.mark.parametrize("size", ["small", "large", "huge"])
@pytest.mark.parametrize("kind", [20, 24, 25])
def test_values_that_the_target_does_not_read(
    target: Server, tmp_path: Path, size: str, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis 7.0 has no listpacks of sets, and no fields that expire: these are left out, and it is said."""
    if size == "large":
        monkeypatch.setattr(full, "LARGEST", 50)
    value = bytes([kind]) + (VALUES | NEWER)[kind]
    data = RECORD.pack(FAR, 9, TO_THE_END if size == "huge" else len(value)) + b"the-value" + value
    if size != "huge":
        string = b"\x00" + raw(b"plain")
        data = RECORD.pack(-1, 1, len(string)) + b"a" + string + data + RECORD.pack(-1, 1, len(string)) + b"b" + string
    chunk = Chunk(tmp_path / "gen", data, data.count(b"plain") + 1, huge=size == "huge")
    write_tables(tmp_path / "gen", 12, [], [])
    chunk.load(target)
    assert chunk.ended == chunk.chunk.keys
    lost = "2 expiries of hash fields and the like" in chunk.left_out and chunk.left_out.endswith("of key the-value")
    assert lost == bool(chunk.left_out) == (kind != 20)
    with target.client() as client:
        if kind == 20:
            assert client.smembers("the-value") == MEANINGS[20]
        else:
            assert client.hgetall("the-value") == {b"f": b"v", b"g": b"w", b"h": b"x" * 200}
        assert client.pexpiretime("the-value") == FAR + HOLD
        assert client.dbsize() - len(client.keys("keyferry:*")) == chunk.ended


@pytest.mark.parametrize("kind", ["hash", "zset", "stream", "string"])
def test_a_collection_of_more_than_a_megabyte_does_not_come_as_one_restore(
    kind: str, target: Server, tmp_path: Path
) -> None:
    """That would take the target long; a stream or a string does not."""
    fill = {
        "hash": "for i = 1, 70000 do redis.call('HSET', KEYS[1], 'f' .. i, 'value ' .. i) end",
        "zset": "for i = 1, 70000 do redis.call('ZADD', KEYS[1], i / 3, 'member ' .. i) end",
        "stream": "for i = 1, 70000 do redis.call('XADD', KEYS[1], i .. '-1', 'f', 'value ' .. i) end",
        "string": "redis.call('SET', KEYS[1], string.rep('a long value', 200000))",
    }[kind]
    with target.client() as client:
        client.config_set("rdbcompression", "no")
        client.eval(fill, 1, "k")
        value = client.dump("k")
        assert len(value) > full.LARGEST
        client.rename("k", "same")
        body, small = value[:-10], b"\x04\x01\x01f\x01v"
        data = record(b"a", small) + RECORD.pack(FAR, 1, len(body)) + b"k" + body + record(b"b", small)
        client.config_resetstat()
        chunk = Chunk(tmp_path / "gen", data, 3)
        chunk.load(target)
        assert chunk.ended == 3
        whole = kind in ("stream", "string")
        assert client.info("commandstats")["cmdstat_restore"]["calls"] == 2 + whole
        assert client.object("encoding", "k") == client.object("encoding", "same")
        assert not whole or client.dump("k") == value
        equal = {"hash": client.hgetall, "zset": lambda key: client.zrange(key, 0, -1, withscores=True)}.get(kind)
        assert equal is None or equal("k") == equal("same")
        assert client.pexpiretime("k") == FAR + HOLD
        assert client.hgetall("a") == client.hgetall("b") == {b"f": b"v"}
        assert not client.keys("keyferry:tmp:*")


def test_a_target_that_stands_still_does_not_cost_a_loader_its_chunk(
    target: Server, tmp_path: Path, quick: None
) -> None:
    with target.client() as client:
        client.xadd("s", {"f": "v"}, id="1-1")
        value = client.dump("s")[:-10]
        client.delete("s")
    chunk = Chunk(tmp_path / "gen", RECORD.pack(-1, 1, TO_THE_END) + b"s" + value, 1, huge=True)
    loading = threading.Thread(target=chunk.load, args=(target,), daemon=True)
    target.pause()
    try:
        loading.start()
        time.sleep(0.6)
        assert chunk.beats > 5
    finally:
        target.resume()
        loading.join(10)
    assert chunk.ended == 1
    beats = chunk.beats
    with target.client() as client:
        assert client.xlen("s") == 1
    time.sleep(0.2)
    assert chunk.beats == beats, "it beats no more"


def test_a_chunk_taken_away_stops_its_loader(
    target: Server, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full, "BATCH_KEYS", 1)
    real = FencedBatches._push

    def slow(self: FencedBatches, body: bytes, commands: int, last: bytes = b"") -> None:
        time.sleep(0.02)
        real(self, body, commands, last)

    monkeypatch.setattr(FencedBatches, "_push", slow)
    chunk = Chunk(tmp_path / "gen", WHOLE, 300)
    chunk.lost = True
    with pytest.raises(Fenced, match="taken away"):
        chunk.load(target)
    assert not chunk.ended
    with target.client() as client:
        assert client.dbsize() < 100


def test_a_value_too_long_for_memory_is_not_sent_to_its_end_once_the_chunk_is_taken_away(
    target: Server, quick: None
) -> None:
    def blocks() -> Iterator[bytes]:
        for _ in range(1000):
            time.sleep(0.01)
            yield b"x" * 100

    sent = blocks()

    def lost() -> None:
        raise Fenced("taken away")

    link = TargetLink(endpoint(target), "test", 0)
    beating = beat.Beat(lost)
    batches = FencedBatches(link, UID, 0, 1, "0", 0, 0, check=beating.check)
    with pytest.raises(Fenced), beating:
        batches.send_long(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n", sent, b"\r\n", encode([b"SET", b"k"]))
    link.close()
    assert next(sent, None) is not None


def test_a_target_that_evicts_what_fences_the_load_ends_it(tmp_path: Path) -> None:
    """It would do so again; else it has fallen back, and the chunk is loaded again."""
    cases = ((False, False, ConnectionLost), (True, True, ConnectionLost), (True, False, CannotContinue))
    for evicts, emptied, expected in cases:
        with start("redis-7.0", config={"maxmemory-policy": "allkeys-lru"}) as server, server.client() as client:
            if evicts:
                client.config_set("maxmemory", client.info("memory")["used_memory"] + (8 << 20))
                for i in range(2000):
                    client.set(f"fill:{i}", "v" * 10_000)
                assert client.info("stats")["evicted_keys"] > 0
                client.config_set("maxmemory", 0)
            batches = FencedBatches(TargetLink(endpoint(server), "test", 0), UID, 0, 1, "0", 0, 0)
            client.flushall() if emptied else client.delete(load_key(UID, 0, 1, "0"))
            batches.send(encode([b"SET", b"a", b"1"]), 1)
            with pytest.raises(expected):
                batches.finish()
            assert client.get("a") is None


@pytest.mark.parametrize(("kind", "lost"), [(26, 2), (27, 12)])
def test_a_huge_stream_of_later_redis_comes_in_pieces_without_what_is_left_out(
    kind: int, lost: int, target: Server, tmp_path: Path
) -> None:
    value = bytes([kind]) + later_stream(kind, 20_000, b"v" * 500)
    assert len(value) > 8 << 20
    chunk = Chunk(tmp_path / "gen", RECORD.pack(FAR, 9, TO_THE_END) + b"the-value" + value, 1, huge=True)
    write_tables(tmp_path / "gen", 14, [], [])
    chunk.load(target)
    assert chunk.ended == 1
    assert chunk.left_out.startswith(f"{lost} ")
    assert chunk.left_out.endswith("of key the-value")
    with target.client() as client:
        assert client.xlen("the-value") == 20_000
        assert client.xpending("the-value", "group")["pending"] == 10
        assert client.pexpiretime("the-value") == FAR + HOLD
        assert client.info("commandstats")["cmdstat_xadd"]["calls"] >= 20_000


@pytest.mark.parametrize("huge", [True, False])
def test_an_array_that_the_target_cannot_have_is_refused_and_nothing_of_it_written(
    target: Server, tmp_path: Path, huge: bool
) -> None:
    value = bytes([28]) + NEWER[28]
    data = RECORD.pack(-1, 9, TO_THE_END if huge else len(value)) + b"the-array" + value
    chunk = Chunk(tmp_path / "gen", data, 1, huge=huge)
    write_tables(tmp_path / "gen", 14, [], [])
    with pytest.raises(UnsupportedType, match="type 28") as raised:
        chunk.load(target)
    assert "the-array" in raised.value.message
    assert raised.value.retry is Retry.FATAL
    assert not chunk.ended
    with target.client() as client:
        assert not client.exists("the-array")


def test_a_stream_that_the_target_reads_whole_is_not_built() -> None:
    """Commands could not give it its producers."""
    assert [can_build(kind, 14, Reads(14)) for kind in (21, 26, 27, 28)] == [True, False, False, False]
    assert [can_build(kind, 14, Reads(13)) for kind in (21, 26, 27, 28)] == [True, False, True, False]
    assert [can_build(kind, 14, Reads(80)) for kind in (21, 26, 27, 28)] == [True, True, True, False]
