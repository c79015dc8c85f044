"""The stream job as a whole, without a database: its lease, and what a power cut takes from its log."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.errors import Fenced, Side
from sync_tasks.names import checkpoint_key
from sync_tasks.objects import ObjectStore
from sync_tasks.states import ChunkState
from sync_tasks.views import ChunkView, LoadState, NodeView, Orders
from tests.servers import Server, start
from tests.unit.protocol.conftest import TASK, UID, Port, endpoint, until
from tests.unit.protocol.faulty import NEW, Receiving
from workers import beat
from workers.sharding import Slots
from workers.spool import log as log_module
from workers.spool.log import HEADER
from workers.spool.stored import Stored
from workers.stream import StreamJob

SHIFT_S = 0.5


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats come often."""
    monkeypatch.setattr(beat, "BEAT_S", 0.05)


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


class Loading(Leased):
    """A job whose load goes on until it is `loaded`."""

    loaded = False

    def load_state(self, _: int) -> LoadState:
        return LoadState(chunks=1, done=int(self.loaded), keys_done=0, bytes_done=0)


class Job:
    """A stream job in a thread."""

    def __init__(
        self, port: Leased, source: Server, target: Server, directory: Path, shift_s: float = float("inf"),
        stored: Stored | None = None,
    ) -> None:
        self.port = port
        ends = endpoint(source, Side.SOURCE), endpoint(target)
        self.job = StreamJob(port, *ends, directory, 0, shift_s, stored=stored)
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


def test_what_an_owner_died_of_is_over_once_the_next_one_works(
    target: Server, empty: Server, tmp_path: Path, quick: None
) -> None:
    port = Leased(NEW)
    port.open.add(Side.CONTROL)  # a full disk, say
    job = Job(port, empty, target, tmp_path)
    try:
        assert until(lambda: not port.open), job.error
    finally:
        job.stop()


def test_a_shift_ends_at_a_checkpoint(target: Server, empty: Server, tmp_path: Path, quick: None) -> None:
    job = Job(Leased(NEW), empty, target, tmp_path, shift_s=SHIFT_S)
    assert until(job.streams), job.error
    with empty.client() as client, target.client() as reader:
        while job.thread.is_alive():
            client.incr("n")
        job.thread.join(10)
        assert job.error is None
        offset = int(reader.hget(checkpoint_key(UID, 0), "offset") or 0)
        assert job.job.applier.progress.committed == offset > 0
        assert 0 < int(reader.get("n") or 0) <= int(client.get("n") or 0)


def test_a_job_that_ends_stands_nowhere(
    target: Server, empty: Server, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Slots] = []
    monkeypatch.setattr(Slots, "leave", lambda slots: left.append(slots))
    job = Job(Leased(NEW), empty, target, tmp_path)
    assert until(job.streams), job.error
    job.stop()
    assert left == [job.job.slots]


def test_a_shift_does_not_end_in_mid_load(target: Server, empty: Server, tmp_path: Path, quick: None) -> None:
    port = Loading(NEW)
    job = Job(port, empty, target, tmp_path, shift_s=SHIFT_S)
    assert until(lambda: port.view.snapshot_done), job.error
    time.sleep(2 * SHIFT_S)
    assert job.thread.is_alive(), job.error
    port.loaded = True
    job.thread.join(10)
    assert not job.thread.is_alive()
    assert job.error is None
    assert job.job.applier.progress.committed is not None, "it has begun to stream"


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
        assert len(segments) > 2
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


@pytest.mark.parametrize("same", [True, False])
def test_a_load_from_an_object_store_that_was_given_up_begins_anew(
    target: Server, empty: Server, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """With `spool_url` changed in mid-load no worker is told any more of the store where its chunks are."""
    port = Loading(NEW)
    job = Job(port, empty, target, tmp_path)
    assert until(lambda: port.view.snapshot_done), job.error
    job.stop()
    port.orders, port.epoch = Orders(), 3
    former, now = ObjectStore(f"file://{tmp_path}/former"), ObjectStore(f"file://{tmp_path}/now")
    path = Stored(now if same else former, tmp_path).recorded(tmp_path / UID / "0" / "gen-1" / "000000.chunk")
    waits = ChunkView(1, 1, 1, 1, 0, 0, 0, False, path, 1, 1, ChunkState.READY, 0, 1)
    monkeypatch.setattr(port, "chunks", lambda gen, every=False: [waits] if gen == 1 else [])
    job = Job(port, empty, target, tmp_path, stored=Stored(now, tmp_path))
    try:
        assert until(lambda: hasattr(job.job, "receiver") and job.job.receiver.connected), job.error
        time.sleep(0.3 if same else 0)
        assert until(lambda: port.view.gen == (1 if same else 2)), port.failures
    finally:
        job.stop()
