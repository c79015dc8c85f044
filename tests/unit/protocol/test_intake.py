"""A stream job whose task is suspended: it receives, up to a limit, and leaves the target alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.errors import CannotContinue, Side
from sync_tasks.names import checkpoint_key
from sync_tasks.views import NodeView, Orders
from tests.servers import Server, start
from tests.unit.protocol.conftest import UID, until
from tests.unit.protocol.faulty import NEW
from tests.unit.protocol.test_job import Job, Leased
from workers import beat, intake

BIG = 1 << 40
SECONDS = 20.0  # for what takes a moment on a machine that is not busy


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats come often."""
    monkeypatch.setattr(beat, "BEAT_S", 0.05)


@pytest.fixture
def empty() -> Iterator[Server]:
    """A source with nothing in it, and a small backlog."""
    with start("redis-7.0", config={"repl-backlog-size": "64kb"}) as server:
        yield server


class Suspended(Leased):
    """A job that may be suspended; remembers what it reports."""

    def __init__(self, node: NodeView) -> None:
        super().__init__(node)
        self.reported: dict[str, Any] = {}
        self.ends: list[str] = []
        self.rested = self.read_anew = 0

    def suspend(self, limit: int) -> None:
        self.orders = Orders(receive_bytes=limit)

    def resume(self) -> None:
        self.view = replace(self.view, fresh=True)
        self.orders = Orders()

    def rests(self) -> None:
        self.rested += 1
        self.orders = replace(self.orders, resting=True)

    def receive_no_more(self, why: str) -> None:
        self.ends.append(why)

    def reread(self) -> None:
        self.read_anew += 1

    def progress(self, values: Any) -> None:
        self.reported |= values


def written(server: Server) -> dict[bytes, bytes | None]:
    """Every key; the checkpoint changes with each write of ours."""
    with server.client() as client:
        return {key: client.dump(key) for key in client.scan_iter(count=1000)}


def offset(server: Server) -> int:
    with server.client() as client:
        return int(client.info("replication")["master_repl_offset"])


def write(source: Server, size: int) -> None:
    with source.client() as client:
        for _ in range(size // 10_000):
            client.append("s", "x" * 10_000)
            client.incr("n")


def received(job: Job, source: Server) -> bool:
    end = offset(source)
    return until(lambda: (job.job.log.end or 0) >= end, SECONDS)


@contextmanager
def resting(port: Suspended, source: Server, target: Server, place: Path) -> Iterator[Job]:
    """A job that was in step when its task was suspended; at the end it has met no error."""
    job = Job(port, source, target, place)
    try:
        assert until(job.streams, SECONDS), job.error
        port.suspend(BIG)
        assert until(lambda: port.rested, SECONDS)
        yield job
    finally:
        job.stop()
    assert job.error is None


def test_it_receives_and_applies_again_on_the_same_link(target: Server, empty: Server, tmp_path: Path) -> None:
    port = Suspended(NEW)
    with resting(port, empty, target, tmp_path) as job:
        before, links = written(target), int(_stats(empty, "sync_partial_ok"))
        for _ in range(10):
            write(empty, 50_000)
            assert received(job, empty)
        assert until(lambda: port.reported["received_offset"] == job.job.log.end, SECONDS)
        assert written(target) == before
        assert port.reported["applied_offset"] == job.job.applier.progress.committed

        with empty.client() as client, target.client() as reader:
            acknowledged = client.info("replication")["slave0"]["offset"]
            assert acknowledged <= int(reader.hget(checkpoint_key(UID, 0), "offset") or 0)
            port.resume()
            assert until(lambda: reader.get("n") == client.get("n"), SECONDS), job.error
            assert until(lambda: reader.strlen("s") == client.strlen("s"), SECONDS)
        assert (port.rested, port.read_anew, port.view.fresh) == (1, 1, False)
        assert port.epoch >= 1 << 20, "an operator's start"
        assert (int(_stats(empty, "sync_full")), int(_stats(empty, "sync_partial_ok"))) == (1, links)
        port.suspend(BIG)
        assert until(lambda: port.rested == 2, SECONDS), "it may be suspended again"


def _stats(source: Server, name: str) -> str:
    with source.client() as client:
        return str(client.info("stats")[name])


def test_a_job_that_begins_suspended_never_touches_the_target(target: Server, empty: Server, tmp_path: Path) -> None:
    port = Suspended(NEW)
    job = Job(port, empty, target, tmp_path)
    assert until(job.streams, SECONDS), job.error
    job.stop()
    before, committed = written(target), job.job.applier.progress.committed
    port.view = replace(port.view, applied_offset=committed, receive_bytes=BIG)
    port.suspend(BIG)
    port.epoch += 1
    job = Job(port, empty, target, tmp_path)
    try:
        assert until(lambda: port.rested, SECONDS), job.error
        write(empty, 30_000)
        assert received(job, empty)
        assert not job.job.applier.is_alive()
        assert written(target) == before
        port.resume()
        with empty.client() as client, target.client() as reader:
            assert until(lambda: reader.get("n") == client.get("n"), SECONDS), job.error
    finally:
        job.stop()
    assert job.error is None


def test_what_is_to_be_loaded_anew_waits_for_the_resumption(target: Server, empty: Server, tmp_path: Path) -> None:
    """The applier had asked for it just before the task was suspended; the stream goes on to disk."""
    port = Suspended(NEW)
    with resting(port, empty, target, tmp_path) as job:
        job.job.log.anew = True
        write(empty, 30_000)
        assert received(job, empty)
        assert int(_stats(empty, "sync_full")) == 1
        port.resume()
        assert until(lambda: int(_stats(empty, "sync_full")) == 2, SECONDS), job.error


@pytest.mark.parametrize("why", ["the limit", "the disk"])
def test_when_there_is_enough_the_link_is_closed(
    target: Server, empty: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    port = Suspended(NEW)
    job = Job(port, empty, target, tmp_path)
    assert until(job.streams, SECONDS), job.error
    port.suspend(100_000)
    assert until(lambda: port.rested, SECONDS)
    if why == "the disk":
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(intake.shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    else:
        write(empty, 50_000)
        assert received(job, empty)
        assert job.thread.is_alive()
        write(empty, 60_000)
    job.thread.join(SECONDS)
    assert not job.thread.is_alive()
    assert job.error is None
    (said,) = port.ends
    assert {"the limit": "the limit is 97.7 KiB", "the disk": "which has only 1.0 MiB left"}[why] in said
    assert "the link to the source is closed" in said
    with empty.client() as client:
        assert until(lambda: client.info("replication")["connected_slaves"] == 0, SECONDS)
    assert port.reported["received_offset"] == job.job.log.end


def test_a_snapshot_that_is_offered_is_not_taken(target: Server, empty: Server, tmp_path: Path) -> None:
    port = Suspended(NEW)
    job = Job(port, empty, target, tmp_path)
    assert until(job.streams, SECONDS), job.error
    job.stop()
    before = written(target)
    port.view = replace(port.view, begun=True, applied_offset=job.job.applier.progress.committed, receive_bytes=BIG)
    write(empty, 1_000_000)
    port.suspend(BIG)
    job = Job(port, empty, target, tmp_path)
    job.thread.join(SECONDS)
    assert isinstance(job.error, CannotContinue), port.failures
    assert job.error.side is Side.SOURCE
    assert written(target) == before
    assert port.view.gen == 1


def test_a_source_that_is_away_is_tried_again(target: Server, empty: Server, tmp_path: Path) -> None:
    port = Suspended(NEW)
    with resting(port, empty, target, tmp_path) as job:
        with empty.client() as client:
            client.client_kill_filter(_type="replica")
        assert until(lambda: port.failures, SECONDS)
        write(empty, 10_000)
        assert received(job, empty)
        assert job.thread.is_alive()
