"""Chunk files are on the disk before anybody is told of them, and nobody waits for that."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from sync_tasks.errors import DATABASE, ControlError, Fenced, Retry, SpoolFull
from workers.spool import publish
from workers.spool.chunks import ChunkWriter, Closed
from workers.spool.publish import Publisher


def chunk(seq: int) -> Closed:
    return Closed(seq, 0, 0, False, f"{seq}.chunk", 1, 1)


class Told:
    """What became of the chunks, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, str]] = []
        self.disk = threading.Event()
        self.disk.set()
        self.fails: list[BaseException] = []  # of the database, one by one
        monkeypatch.setattr(publish, "make_durable", self.sync)
        self.publisher = Publisher(self.record, lambda _: 0.01, lambda: False)

    def sync(self, path: Path) -> None:
        self.disk.wait(10)
        self.events.append(("on disk", path.name))

    def record(self, one: Closed) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.events.append(("recorded", one.path))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def test_each_is_on_the_disk_before_it_is_recorded_and_the_end_comes_last(told: Told) -> None:
    for seq in range(2):
        told.publisher.put(chunk(seq))
    told.publisher.end(lambda: told.events.append(("ended", "")))
    told.publisher.wait()
    assert told.events == [
        ("on disk", "0.chunk"), ("recorded", "0.chunk"), ("on disk", "1.chunk"), ("recorded", "1.chunk"), ("ended", ""),
    ]  # fmt: skip


def test_a_slow_disk_keeps_nobody_waiting(told: Told) -> None:
    told.disk.clear()
    began = time.monotonic()
    for seq in range(50):
        told.publisher.put(chunk(seq))
    told.publisher.end(lambda: None)
    assert time.monotonic() - began < 1
    assert told.events == []
    told.disk.set()
    told.publisher.wait()
    assert len(told.events) == 100


def test_a_full_disk_of_the_database_loses_no_chunk(told: Told) -> None:
    told.fails = [SpoolFull("full"), SpoolFull("full")]
    told.publisher.put(chunk(0))
    told.publisher.wait()
    assert told.events == [("on disk", "0.chunk"), ("recorded", "0.chunk")]


def test_a_database_that_is_away_loses_no_snapshot(told: Told) -> None:
    away = ControlError("the database answers: closed", code=DATABASE, retry=Retry.OTHER)
    told.fails = [away, away]
    ends = [away, None]

    def end() -> None:
        if error := ends.pop(0):
            raise error
        told.events.append(("ended", ""))

    told.publisher.put(chunk(0))
    told.publisher.end(end)
    told.publisher.wait()
    assert told.events == [("on disk", "0.chunk"), ("recorded", "0.chunk"), ("ended", "")]


def test_behind_a_failure_nothing_is_recorded_and_the_snapshot_does_not_end(told: Told) -> None:
    told.fails = [Fenced("lost")]
    told.publisher.put(chunk(0))
    told.publisher.end(lambda: told.events.append(("ended", "")))
    with pytest.raises(Fenced):
        told.publisher.wait()
    with pytest.raises(Fenced):
        told.publisher.put(chunk(1))
    assert told.events == [("on disk", "0.chunk")]


def test_a_file_that_the_disk_has_lost_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says so once; to try again would find the file in order."""

    def full(_: Path) -> None:
        raise SpoolFull("full")

    monkeypatch.setattr(publish, "make_durable", full)
    publisher = Publisher(lambda _: None, lambda _: 0.01, lambda: False)
    publisher.put(chunk(0))
    with pytest.raises(ControlError) as caught:
        publisher.wait()
    assert not isinstance(caught.value, SpoolFull)
    assert caught.value.retry is Retry.OTHER


def test_a_new_snapshot_begins_in_an_empty_directory(tmp_path: Path) -> None:
    """The number of a snapshot comes again when the database has lost its last commits."""
    directory = tmp_path / "gen-1"
    directory.mkdir()
    for name in ("000000.chunk", "tables.json", "damaged"):
        (directory / name).touch()
    ChunkWriter(directory, lambda _: None)
    assert list(directory.iterdir()) == []


def test_what_is_held_is_never_recorded_if_it_breaks_off(told: Told) -> None:
    publisher = Publisher(told.record, lambda _: 0.01, lambda: False, held=True)
    for seq in range(5):
        publisher.put(chunk(seq))
    time.sleep(0.05)
    publisher.abandon()
    assert told.events == []
