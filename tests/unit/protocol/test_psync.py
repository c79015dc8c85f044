"""A source's answers to PSYNC, good and bad: what surrounds a snapshot, and a snapshot that nobody can read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sync_tasks.errors import ConnectionLost, KeyferryError, Malformed, Side, SourceError, UnsupportedType
from sync_tasks.states import ChunkState
from sync_tasks.views import ChunkView, LoadState
from tests.servers import Server, start
from tests.unit.codec.rdb import entry, length, raw, rdb
from tests.unit.protocol.conftest import TASK, endpoint
from tests.unit.protocol.fake_source import FULL, MARK, REPLID, WAIT_S, FakeSource
from tests.unit.protocol.faulty import NEW
from tests.unit.protocol.test_job import Job, Leased
from tests.unit.protocol.test_load import Chunk
from workers.snapshot import SnapshotReader
from workers.source.psync import Full, ReplicaLink

FIRST = b"\xfe\x00" + entry(b"before", 0, raw(b"1"))
SNAPSHOT = rdb(FIRST, magic=b"REDIS0010")
STREAM = b"*1\r\n$4\r\nPING\r\n"
UNKNOWN = 22  # Redis 7.4's hash with field expiries that nobody can read before its version 12


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start("redis-7.0") as one:
        yield one


@dataclass
class Received:
    """What came over a link."""

    answer: object
    size: int | None
    keys: int
    link: ReplicaLink


def receive(source: FakeSource, directory: Path) -> Received:
    """A snapshot, to its end."""
    link = ReplicaLink(endpoint(source, Side.SOURCE))  # type: ignore[arg-type]
    answer = link.psync(None, 0)
    parts = link.snapshot()
    size = next(parts)
    assert not isinstance(size, bytes)
    reader = SnapshotReader(
        directory, closed=lambda _: None, progress=lambda _: None, stopping=lambda: False, waiting=lambda _: 0.0
    )
    reader.read(link, parts)
    return Received(answer, size, reader.chunks.keys, link)


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
@pytest.mark.parametrize(
    ("head", "tail", "size"),
    [(b"$EOF:" + MARK, MARK, None), (b"$%d" % len(SNAPSHOT), b"", len(SNAPSHOT))],
    ids=["diskless", "sized"],
)
def test_newlines_keep_the_link_alive(
    pieces: str, head: bytes, tail: bytes, size: int | None, server: Server, tmp_path: Path
) -> None:
    said = b"\n\n" + FULL + b"\n\n\n" + head + b"\r\n" + SNAPSHOT + tail + STREAM
    script = [said] if pieces == "whole" else [bytes([byte]) for byte in said]
    with FakeSource(server, *script) as source:
        got = receive(source, tmp_path / "gen")
        assert got.answer == Full(REPLID.decode(), 100)
        assert (got.size, got.keys) == (size, 1)
        stream = b""
        while len(stream) < len(STREAM):
            stream += got.link.receive()
        assert stream == STREAM
        got.link.close()


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (FULL + b"$EOF:" + MARK + b"\r\n" + SNAPSHOT + b"n" * 40, SourceError),
        (FULL + b"$EOF:" + MARK + b"\r\n" + SNAPSHOT + MARK[:-1] + b"*", SourceError),
        (FULL + b"$EOF:" + MARK + b"\r\n" + SNAPSHOT + MARK[:-1], ConnectionLost),
        (FULL + b"$EOF:" + MARK + b"\r\n" + SNAPSHOT[:-9], ConnectionLost),
        (FULL + b"$EOF:" + MARK[:-1] + b"\r\n" + SNAPSHOT + MARK, SourceError),
        (FULL + b"$EOF:\r\n" + SNAPSHOT, SourceError),
        (FULL + b"$%d\r\n" % (len(SNAPSHOT) - 1) + SNAPSHOT, Malformed),
        (FULL + b"$%d\r\n" % (len(SNAPSHOT) + 1) + SNAPSHOT + b"*", SourceError),
        (FULL + b"$-1\r\n" + SNAPSHOT, SourceError),
        (FULL + b"$many\r\n" + SNAPSHOT, SourceError),
        (FULL + b"$\r\n" + SNAPSHOT, SourceError),
        (FULL.replace(b"100", b"1oo"), SourceError),
        (FULL.replace(b"100", b"-1"), SourceError),
        (FULL.replace(REPLID, b"../escape"), SourceError),
        (FULL.replace(REPLID, b"\xff" * 40), SourceError),
        (b"+FULLRESYNC\r\n", SourceError),
        (b"+CONTINUE ../escape\r\n", SourceError),
        (b"?" * (1 << 17), SourceError),
        (b"", ConnectionLost),
    ],
)
def test_what_is_no_answer_is_refused(
    said: bytes, error: type[KeyferryError], server: Server, tmp_path: Path
) -> None:
    with FakeSource(server, said, stays=False) as source, pytest.raises(error) as caught:
        receive(source, tmp_path / "gen")
    assert caught.value.side == Side.SOURCE
    if error is not ConnectionLost:
        assert caught.value.code in ("malformed", "source")


class Loading(Leased):
    """A job whose chunks are loaded at once."""

    def __init__(self, target: Server) -> None:
        super().__init__(NEW)
        self._target = target
        self.loaded = threading.Event()

    def add_chunk(self, *, gen: int, seq: int, db: int, path: str, keys: int, size: int, **_: object) -> int:  # type: ignore[override]
        chunk = Chunk.__new__(Chunk)
        chunk.task, chunk.node_number, chunk.beats, chunk.lost = TASK, 0, 0, False
        chunk.chunk = ChunkView(seq, 1, 1, gen, seq, db, 0, False, path, keys, size, ChunkState.RUNNING, 0, 1)
        chunk.load(self._target)
        self.loaded.set()
        return seq

    def load_state(self, _: int) -> LoadState:
        return LoadState(2, 1, 1, 1)


def test_an_unknown_type_ends_the_job_before_anything_of_it_is_written(
    server: Server, target: Server, tmp_path: Path
) -> None:
    unknown = b"\xfe" + length(1) + entry(b"fine", 0, raw(b"2")) + entry(b"odd", UNKNOWN, raw(b"x"))
    rest = unknown + entry(b"behind", 0, raw(b"3")) + b"\xff" + bytes(8)
    port = Loading(target)
    script: list[bytes | Callable[[], object]] = [
        FULL + b"$EOF:" + MARK + b"\r\n" + b"REDIS0010" + FIRST + b"\xfe\x01",
        lambda: port.loaded.wait(WAIT_S),
        rest + MARK + STREAM,
    ]
    with FakeSource(server, *script) as source:
        job = Job(port, source, target, tmp_path)  # type: ignore[arg-type]
        job.thread.join(WAIT_S)
    assert isinstance(job.error, UnsupportedType)
    assert f"value type {UNKNOWN} " in job.error.message
    assert "b'fine'" in job.error.message
    with target.client() as client, target.client(db=1) as second:
        assert client.get("before") == b"1"
        assert second.keys() == []
        assert [key for key in client.scan_iter() if not key.startswith(b"keyferry:")] == [b"before"]
