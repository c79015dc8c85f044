"""What a second review found broken in the way of the data; each test failed before its find was mended."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import (
    CannotContinue,
    ConnectionLost,
    ControlError,
    Fenced,
    KeyferryError,
    Retry,
    Side,
    UsageError,
)
from sync_tasks.states import ChunkState
from sync_tasks.views import ChunkView, NodeView, Orders
from tests.servers import Server, start
from tests.unit.protocol.conftest import NODE, REPLID, TASK, UID, Port, endpoint, translator, until
from workers import beat, full, sweep, translate
from workers.apply import Applier
from workers.codec.resp_cy import encode
from workers.full import FencedBatches, load_chunk
from workers.receive import Receiver
from workers.scope import Scope
from workers.source.ask import Source
from workers.spool import log as log_module
from workers.spool.chunks import RECORD, TO_THE_END
from workers.spool.damage import damaged, is_damaged
from workers.spool.log import HEADER, Block, Log
from workers.spool.tables import write_tables
from workers.stream import StreamJob
from workers.target.claim import Checkpoint
from workers.target.link import TargetLink

NEW = replace(NODE, begun=False, snapshot_done=False, gen=0, replid=None)
LOADED = replace(NODE, begun=False, snapshot_done=True, gen=1)


@pytest.fixture(scope="module")
def source() -> Iterator[Server]:
    with start("redis-7.0") as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats come often."""
    monkeypatch.setattr(beat, "BEAT_S", 0.05)


# --- a window that never passes


@pytest.fixture
def closing(source: Server, tmp_path: Path) -> Iterator[Callable[[Server, NodeView], Applier]]:
    """Starts an applier on a load; its log is there."""
    made: list[Applier] = []

    def begin(target: Server, node: NodeView) -> Applier:
        log = Log(tmp_path / "log")
        log.reset(REPLID, 0)
        asks = Source(endpoint(source, Side.SOURCE))
        made.append(Applier(endpoint(target), Port(TASK, node), log, asks, tmp_path, Scope(None), 0))
        made[-1].start()
        return made[-1]

    yield begin
    for one in made:
        one.stop_event.set()
        one.loaded.set()
        one.join(10)


def test_a_first_window_that_never_passes_keeps_its_retry_window_open(
    closing: Callable[[Server, NodeView], Applier], tmp_path: Path
) -> None:
    """Each claim succeeds, and the window behind it ends the connection: the deadline must come all the same."""
    (tmp_path / "gen-1").mkdir()
    write_tables(tmp_path / "gen-1", 10, [], [b"return '%b'" % (b"x" * 3_000_000)])
    with start("redis-7.0", config={"maxmemory-clients": "1mb"}) as target:
        applier = closing(target, LOADED)
        applier.loaded.set()
        port: Any = applier.port
        assert until(lambda: len(port.failures) > 5)
        assert port.opened == 1


def test_a_claim_during_the_load_closes_the_retry_window_of_the_target(
    target: Server, closing: Callable[[Server, NodeView], Applier]
) -> None:
    """Nothing else is written there before the load is in, and past its deadline the window would fail the task."""
    applier = closing(target, NEW)
    port: Any = applier.port
    port.failing(ConnectionLost("restarted", side=Side.TARGET))
    with target.client() as client:  # it claims again
        client.client_kill_filter(_type="normal", skipme=True)
    assert until(lambda: not port.open)


# --- a transaction without end


@pytest.mark.parametrize("command", [[b"SETEX", b"k", b"100", b"v"], [b"PEXPIREAT", b"k", b"99999999999999"]])
def test_a_transaction_of_timed_commands_alone_has_a_limit(
    monkeypatch: pytest.MonkeyPatch, command: list[bytes]
) -> None:
    monkeypatch.setattr(translate, "LARGEST_TRANSACTION", 20_000)
    made = translator()
    data = encode([b"SELECT", b"0"]) + encode([b"MULTI"]) + encode(command) * 1000
    with pytest.raises(CannotContinue, match="a transaction of the source"):
        made.feed(Block(0, 1, 0, REPLID, data))


# --- chunk files


class Chunk:
    """A claimed chunk without a database."""

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

    def done(self, keys: int) -> None:
        self.ended = keys

    def load(self, target: Server) -> None:
        load_chunk(self, endpoint(target), 0, 0)


def record(key: bytes, value: bytes = b"\x00\x01v") -> bytes:
    return RECORD.pack(-1, len(key), len(value)) + key + value


RECORDS = [record(b"k%03d" % i) for i in range(300)]
WHOLE = b"".join(RECORDS)


def test_a_whole_chunk_is_loaded(target: Server, tmp_path: Path) -> None:
    chunk = Chunk(tmp_path / "gen", WHOLE, 300)
    chunk.load(target)
    assert (chunk.ended, chunk.beats) == (300, 0)
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
        assert not client.exists(f"keyferry:{UID}:0:marks:1")
    if torn != WHOLE[:-5] + b"\xff" * 5:  # the records are whole: that is the source's word against the disk's
        assert is_damaged(tmp_path / "gen")


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


# --- another snapshot


class Receiving:
    """A receiver on a source, with what it asks of the target in our hands."""

    def __init__(self, source: Server, directory: Path, node: NodeView) -> None:
        self.source, self.directory = source, directory
        self.port = Port(TASK, node)
        self.found: Checkpoint | None = None
        self.away: set[str] = set()
        self.begins: list[int] = []
        asks = Source(endpoint(source, Side.SOURCE))
        self.receiver = Receiver(
            endpoint(source, Side.SOURCE), self.port, Log(directory / "log"), directory, asks,
            lambda: None, self._begin, self._checkpoint, threading.Lock(),
        )  # fmt: skip
        with source.client() as client:
            self._before = int(client.info("stats")["sync_full"])

    def _begin(self, gen: int) -> None:
        self.begins.append(gen)
        if "writes" in self.away:
            raise KeyferryError("READONLY", side=Side.TARGET, retry=Retry.OTHER)

    def _checkpoint(self) -> Checkpoint | None:
        if "all" in self.away:
            raise ConnectionLost("away", side=Side.TARGET)
        return self.found

    def snapshots(self) -> int:
        with self.source.client() as client:
            return int(client.info("stats")["sync_full"]) - self._before

    def in_step(self) -> bool:
        with self.source.client() as client:
            end = int(client.info("replication")["master_repl_offset"])
        return self.receiver.connected and (self.receiver.log.end or 0) >= end and self.port.view.snapshot_done

    def cut(self) -> None:
        with self.source.client() as client:
            client.client_kill_filter(_type="replica")

    def stop(self) -> None:
        self.receiver.stop_event.set()
        self.receiver.join(10)


@pytest.fixture
def receive(source: Server, tmp_path: Path) -> Iterator[Callable[..., Receiving]]:
    made: list[Receiving] = []

    def begin(node: NodeView = NEW, server: Server = source) -> Receiving:
        made.append(Receiving(server, tmp_path, node))
        return made[-1]

    yield begin
    for one in made:
        one.stop()


def test_a_damaged_snapshot_is_taken_again(receive: Callable[..., Receiving], tmp_path: Path) -> None:
    one = receive()
    one.receiver.start()
    assert until(one.in_step)
    error = damaged(tmp_path / "gen-1" / "000000.chunk", "is missing")
    one.port.failing(error)
    assert until(lambda: one.port.view.gen == 2 and one.in_step()), one.receiver.error
    assert one.snapshots() == 2
    assert until(lambda: Side.CONTROL not in one.port.open)


def test_damage_to_a_snapshot_that_is_loaded_matters_no_more(
    receive: Callable[..., Receiving], tmp_path: Path
) -> None:
    one = receive()
    one.receiver.start()
    assert until(one.in_step)
    one.port.view = replace(one.port.view, begun=True)
    damaged(tmp_path / "gen-1" / "000000.chunk", "is missing")
    assert until(lambda: not is_damaged(tmp_path / "gen-1"))
    assert until(one.in_step)
    assert one.snapshots() == 1


def test_chunks_are_recorded_while_the_source_is_drained(
    receive: Callable[..., Receiving], monkeypatch: pytest.MonkeyPatch, source: Server
) -> None:
    """The disk takes its time; the source must not feel it, and the snapshot is not whole before."""
    disk = threading.Event()
    monkeypatch.setattr("workers.spool.publish.make_durable", lambda _: disk.wait(10))
    with source.client() as client:
        client.set("x", 1)
        one = receive()
        one.receiver.start()
        assert until(lambda: one.receiver.connected)
        client.set("x", 2)
        end = int(client.info("replication")["master_repl_offset"])
        assert until(lambda: (one.receiver.log.end or 0) >= end)
        assert not one.port.view.snapshot_done
        disk.set()
        assert until(one.in_step)
        assert one.snapshots() == 1


@pytest.mark.parametrize("away", ["all", "writes"])
def test_no_snapshot_is_asked_for_while_the_target_is_away(receive: Callable[..., Receiving], away: str) -> None:
    """Each costs the source a fork. The one before broke off."""
    one = receive(replace(NEW, gen=2))
    one.away = {away}
    one.receiver.start()
    assert until(lambda: len(one.port.failures) > 5)
    assert one.snapshots() == 0
    one.away = set()
    assert until(one.in_step)
    assert one.snapshots() == 1
    assert one.port.open == set()


@pytest.mark.parametrize("begun", [False, True])
def test_a_source_that_cannot_go_on_is_asked_once_while_the_target_is_away(
    receive: Callable[..., Receiving], begun: bool
) -> None:
    one = receive(replace(LOADED, begun=begun, replid="f" * 40))
    one.receiver.log.reset("f" * 40, 0)
    one.receiver.log.append(b"x", 1)
    one.away = {"all"}
    one.receiver.start()
    assert until(lambda: len(one.port.failures) > 5)
    assert one.snapshots() <= 1
    one.away = set()
    if begun:
        assert until(lambda: isinstance(one.receiver.error, CannotContinue))
        assert one.snapshots() <= 1
    else:
        assert until(one.in_step), one.receiver.error
        assert one.snapshots() <= 2


# --- beats


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

    def slow(self: FencedBatches, body: bytes, commands: int) -> None:
        time.sleep(0.02)
        real(self, body, commands)

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
    batches = FencedBatches(link, UID, 0, 1, 0, 0, beating.check)
    with pytest.raises(Fenced), beating:
        batches.send_long(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n", sent, b"\r\n")
    link.close()
    assert next(sent, None) is not None


class Leased(Port):
    """A job whose beats are counted, and which is told what to do."""

    def __init__(self, node: NodeView) -> None:
        super().__init__(TASK, node)
        self.beats = 0
        self.orders = Orders()

    def renew(self) -> Orders:
        self.beats += 1
        super().renew()
        return self.orders

    def begin_snapshot(self, replid: str, offset: int, *rest: Any) -> int:  # type: ignore[override]
        gen = super().begin_snapshot(replid, offset, *rest)
        self.view = replace(self.view, replid=replid, snapshot_offset=offset)
        return gen

    def begin_stream(self) -> None:
        self.view = replace(self.view, begun=True)


class Job:
    """A stream job in a thread."""

    def __init__(self, port: Leased, source: Server, target: Server, directory: Path) -> None:
        self.port = port
        self.job = StreamJob(port, endpoint(source, Side.SOURCE), endpoint(target), directory, 0)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.job.run()
        except BaseException as error:
            self.error = error

    def streams(self) -> bool:
        return hasattr(self.job, "applier") and self.job.applier.progress.streaming

    def stop(self) -> None:
        self.port.orders = Orders(wanted=False)
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def empty() -> Iterator[Server]:
    """A source with nothing in it."""
    with start("redis-7.0") as server:
        yield server


def test_a_source_that_stands_still_does_not_cost_the_stream_its_lease(
    target: Server, empty: Server, tmp_path: Path, quick: None
) -> None:
    port = Leased(NEW)
    job = Job(port, empty, target, tmp_path)
    try:
        assert until(job.streams), job.error
        empty.pause()
        time.sleep(0.6)  # by now it waits for an answer
        before = port.beats
        time.sleep(0.6)
        assert port.beats - before > 5
    finally:
        empty.resume()
        job.stop()
    assert job.error is None


def test_a_job_obeys_and_ends_when_it_is_fenced(target: Server, empty: Server, tmp_path: Path, quick: None) -> None:
    port = Leased(NEW)
    job = Job(port, empty, target, tmp_path)
    assert until(job.streams), job.error
    port.orders = Orders(finishing=True)
    assert until(lambda: job.job.orders.finishing)
    port.lost = True
    job.thread.join(10)
    assert isinstance(job.error, Fenced)
    beats = port.beats
    time.sleep(0.2)
    assert port.beats == beats, "it beats no more"


# --- the log after a power cut


@pytest.mark.parametrize("lost", ["a segment", "a block"])
def test_a_log_with_a_hole_is_fetched_again(
    target: Server, empty: Server, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 4000)
    port = Leased(NEW)
    with empty.client() as client, target.client() as reader:
        job = Job(port, empty, target, tmp_path)
        assert until(job.streams), job.error
        client.incr("n")
        assert until(lambda: reader.get("n") == b"1"), job.job.applier.error
        job.stop()
        client.incr("n", 10)

        directory = tmp_path / UID / "0"
        received = Receiving(empty, directory, port.view)  # the target is away while these are written
        received.receiver.start()
        for _ in range(300):
            client.incr("n")
            client.append("s", "x" * 50)
        assert until(received.in_step)
        received.stop()
        segments = received.receiver.log.segments
        assert len(segments) > 4
        path = segments[len(segments) // 2].path
        data = bytearray(path.read_bytes())
        data[HEADER.size + 3] ^= 1
        path.write_bytes(b"" if lost == "a segment" else bytes(data))

        port.orders, port.epoch = Orders(), 3
        job = Job(port, empty, target, tmp_path)
        try:
            assert until(lambda: reader.get("n") == client.get("n"), 10), (job.job.applier.error, port.failures)
            assert until(lambda: reader.strlen("s") == client.strlen("s"))
            assert any("fetched again" in event for event in port.events)
            assert until(lambda: port.open == set())
            assert client.info("stats")["sync_full"] == 1
        finally:
            job.stop()


def test_a_load_is_not_closed_over_a_log_that_is_not_there(
    target: Server, closing: Callable[[Server, NodeView], Applier]
) -> None:
    applier = closing(target, replace(LOADED, snapshot_offset=0))
    applier.log.reset(REPLID, 500)
    applier.loaded.set()
    assert until(lambda: applier.log.wanted == (REPLID, 0))
    assert applier.chain is None
    applier.log.reset(REPLID, 0)
    applier.log.append(encode([b"SELECT", b"0"]), 1)
    applier.loaded.set()
    (applier.directory / "gen-1").mkdir()
    write_tables(applier.directory / "gen-1", 10, [], [])
    assert until(lambda: applier.progress.streaming), applier.error


# --- files of addresses


def test_a_file_that_is_being_replaced_is_waited_for(tmp_path: Path) -> None:
    """At the first look it is a mistake; once it was in order, the retry window decides."""
    password = tmp_path / "password"
    url = f"redis://h?password_file={password}"
    with pytest.raises(UsageError) as first:
        Endpoint.parse(url, Side.SOURCE)
    assert (first.value.side, first.value.retry) == (Side.USAGE, Retry.FATAL)
    password.write_text("hush")
    found = Endpoint.parse(url, Side.SOURCE)
    for text in (None, "", "\n"):
        password.unlink() if text is None else password.write_text(text)
        with pytest.raises(UsageError) as later:
            found.auth_commands()
        assert (later.value.side, later.value.retry) == (Side.SOURCE, Retry.OTHER)
        again = Endpoint.stored(found.url(), Side.SOURCE)
        assert again == found
    password.write_text("new")
    assert again.auth_commands() == [(b"AUTH", b"new")]


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_a_certificate_that_is_being_replaced_is_waited_for(tmp_path: Path, text: str | None) -> None:
    cert = tmp_path / "cert.pem"
    cert.touch()
    for query in (f"ca={cert}", f"cert={cert}"):
        found = Endpoint.parse(f"rediss://h?{query}", Side.TARGET)
        cert.unlink() if text is None else cert.write_text(text)
        with pytest.raises(UsageError, match=r"cert\.pem") as caught:
            found.tls_context()
        assert (caught.value.side, caught.value.retry) == (Side.TARGET, Retry.OTHER)
        cert.touch()


def test_a_receiver_outlives_the_rotation_of_its_password(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("hush")
    with start("redis-7.0", config={"requirepass": "hush"}) as server:
        at = Endpoint.parse(f"{server.url()}?password_file={password}", Side.SOURCE)
        port = Port(TASK, NEW)
        receiver = Receiver(
            at, port, Log(tmp_path / "log"), tmp_path, Source(at),
            lambda: None, lambda _: None, lambda: None, threading.Lock(),
        )  # fmt: skip
        receiver.start()
        try:
            assert until(lambda: receiver.connected)
            password.write_text("")
            with server.client(password="hush") as client:
                client.client_kill_filter(_type="replica")
            assert until(lambda: any(failure.code == "file-missing" for failure in port.failures))
            assert receiver.error is None
            password.write_text("hush")
            assert until(lambda: receiver.connected)
            assert until(lambda: port.open == set())
        finally:
            receiver.stop_event.set()
            receiver.join(10)


# --- the sweep


def view(path: Path, gen: int, keys: list[bytes]) -> ChunkView:
    path.parent.mkdir(exist_ok=True)
    data = b"".join(map(record, keys))
    path.write_bytes(data)
    return ChunkView(gen, 1, 1, gen, 0, 0, 0, False, str(path), len(keys), len(data), ChunkState.DONE, 0, 1)


@pytest.mark.parametrize("most", [1 << 20, 100])
def test_a_sweep_removes_exactly_what_is_gone(
    target: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    sizes: list[int] = []

    class Counted(sweep.Hashes):
        def __init__(self) -> None:
            super().__init__()
            sizes.append(0)

        def add(self, value: bytes) -> None:
            super().add(value)
            sizes[-1] += 1

    monkeypatch.setattr(sweep, "Hashes", Counted)
    monkeypatch.setattr(sweep, "MOST_HASHES", most)
    keys = [b"k%d" % i for i in range(1000)]
    chunks = [
        view(tmp_path / "gen-1" / "0.chunk", 1, keys[:600]),
        view(tmp_path / "gen-2" / "0.chunk", 2, keys[300:800]),
        view(tmp_path / "gen-3" / "0.chunk", 3, keys[500:]),
    ]
    with target.client() as client:
        client.mset(dict.fromkeys(keys, 1))
        link = TargetLink(endpoint(target), "test", 0)
        assert sweep.sweep(link, chunks, 3, 0, UID, 0, Scope(None)) == 500
        link.close()
        assert {*client.keys()} == {*keys[500:]}
    assert sum(sizes) == 1000
    assert max(sizes) < 1.5 * most


def test_a_sweep_by_a_torn_file_removes_nothing(target: Server, tmp_path: Path) -> None:
    keys = [b"k%d" % i for i in range(100)]
    chunks = [view(tmp_path / f"gen-{gen}" / "0.chunk", gen, keys) for gen in (1, 2)]
    path = Path(chunks[1].path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with target.client() as client:
        client.mset(dict.fromkeys(keys, 1))
        link = TargetLink(endpoint(target), "test", 0)
        with pytest.raises(ControlError, match="keys"):
            sweep.sweep(link, chunks, 2, 0, UID, 0, Scope(None))
        link.close()
        assert client.dbsize() == 100
    assert is_damaged(path.parent)


def test_hashes_take_little_more_than_their_bytes() -> None:
    def made(count: int) -> int:
        tracemalloc.start()
        known = sweep.Hashes()
        for i in range(count):
            known.add(blake2b(b"%d" % i, digest_size=16).digest())
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert all(blake2b(b"%d" % i, digest_size=16).digest() in known for i in range(0, count, 97))
        assert not any(blake2b(b"%d" % -i, digest_size=16).digest() in known for i in range(1, 5000))
        return size

    each = (made(400_000) - made(0)) / 400_000
    assert each * sweep.MOST_HASHES < 100 << 20


def test_a_hash_is_not_found_across_two_others() -> None:
    known = sweep.Hashes()
    for value in (b"\0" * 8 + b"a" * 8, b"\0\0" + b"b" * 14):
        known.add(value)
    assert b"\0" * 8 + b"a" * 8 in known
    assert b"\0\0" + b"b" * 14 in known
    assert b"a" * 8 + b"\0\0" + b"b" * 6 not in known
    known = sweep.Hashes()
    known.add(b"\0\0" + b"c" * 12 + b"\0\0")
    known.add(b"\0\0" + b"d" * 14)
    assert b"\0\0" + b"\0\0" + b"d" * 12 not in known
