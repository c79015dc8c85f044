"""Chunk files in an object store, which is a directory here: what is kept of them, what is damaged, what is away."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sync_tasks.errors import ControlError, Retry, StoreAway
from sync_tasks.objects import ObjectStore
from sync_tasks.views import STORED
from tests.unit.codec.rdb import record
from workers.spool import stored as stored_module
from workers.spool import uploads as uploads_module
from workers.spool.chunks import ChunkWriter, Closed, count_keys, key_hashes, volatile_keys
from workers.spool.known import Known
from workers.spool.publish import Publisher
from workers.spool.removing import remove_snapshots, sweep_store
from workers.spool.stored import Stored
from workers.spool.sums import is_intact
from workers.spool.tables import read_tables, write_tables
from workers.spool.uploads import Uploads

RUN = "0123456789abcdef"
SEED = b"0123456789abcdef"
RECORDS = [record(b"a", 0, b"x" * 300), record(b"b", 4, b"y", 12345), record(b"c", 22, b"z")]


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(f"file://{tmp_path}/store")


@pytest.fixture
def stored(store: ObjectStore, tmp_path: Path) -> Stored:
    return Stored(store, tmp_path / "spool")


def written(stored: Stored, gen: int = 1, chunks: int = 1) -> list[Closed]:
    """Chunk files of a snapshot in the spool."""
    found: list[Closed] = []
    writer = ChunkWriter(stored.spool / RUN / "0" / f"gen-{gen}", found.append)
    write_tables(writer.directory, 11, [], [])
    for _ in range(chunks):
        writer.add(0, 0, b"".join(RECORDS), len(RECORDS))
        writer.close_all(0)
    return found


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_the_keys_stay_here_and_say_what_the_file_would(stored: Stored) -> None:
    (chunk,) = written(stored)
    path = Path(chunk.path)
    recorded = stored.take(path)
    assert recorded == f"{STORED}{stored.store.mark}/{RUN}/0/gen-1/{path.name}"
    kept = stored.keys(recorded)
    assert kept != path
    assert is_intact(kept)
    assert kept.stat().st_size < chunk.size
    for ask in (count_keys, volatile_keys, lambda one: key_hashes(one, SEED)):
        assert ask(kept) == ask(path)  # type: ignore[operator]
    assert volatile_keys(kept) == [b"b", b"c"]


def test_of_a_huge_value_stays_its_key(stored: Stored) -> None:
    found: list[Closed] = []
    writer = ChunkWriter(stored.spool / RUN / "0" / "gen-1", found.append)
    writer.begin_huge(b"long", -1, 1)
    writer.part(b"x" * 100_000)
    writer.end_huge(0, 0)
    kept = stored.keys(stored.take(Path(found[0].path)))
    assert kept.stat().st_size < 100
    assert (count_keys(kept), volatile_keys(kept)) == (1, [b"long"])


@pytest.mark.parametrize("lost", ["gone", "decayed"])
def test_whoever_has_no_keys_makes_them_of_what_the_store_has(stored: Stored, tmp_path: Path, lost: str) -> None:
    (chunk,) = written(stored)
    recorded = stored.take(Path(chunk.path))
    kept = stored.keys(recorded)
    if lost == "gone":
        kept.unlink()
        stored = Stored(stored.store, tmp_path / "other")
    else:
        flip(kept)
    again = stored.keys(recorded)
    assert is_intact(again)
    assert key_hashes(again, SEED) == key_hashes(Path(chunk.path), SEED)
    assert not list(stored.spool.rglob("fetched*"))


@pytest.mark.parametrize("how", ["missing", "flipped", "short"])
def test_a_damaged_object_is_named(store: ObjectStore, stored: Stored, tmp_path: Path, how: str) -> None:
    (chunk,) = written(stored)
    recorded = stored.take(Path(chunk.path))
    there = tmp_path / "store" / stored.here(recorded).relative_to(stored.spool)
    if how == "missing":
        there.unlink()
    elif how == "flipped":
        flip(there)
    else:
        there.write_bytes(there.read_bytes()[:-1])
    with pytest.raises(ControlError) as caught:
        stored.fetch(recorded, tmp_path / "here", chunk.size, lambda: None)
    assert (caught.value.code, caught.value.retry) == ("snapshot-damaged", Retry.OTHER)
    assert Path(chunk.path).name in caught.value.message
    elsewhere = Stored(store, tmp_path / "other")
    known = Known(tmp_path / "known", RUN, 1, elsewhere)
    assert not known.file(recorded).exists(), "as a file of the spool that is lost"


def test_what_was_damaged_on_its_way_is_fetched_again(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chunk,) = written(stored)
    recorded = stored.take(Path(chunk.path))
    get, times = stored.store.get, [0]

    def bad_line(name: str, file: Path, size: int | None) -> bool:
        times[0] += 1
        found = get(name, file, size)
        if times[0] == 1:
            flip(file)
        return found

    monkeypatch.setattr(stored.store, "get", bad_line)
    path = stored.fetch(recorded, tmp_path / "here", chunk.size, lambda: None)
    assert path.read_bytes() == Path(chunk.path).read_bytes()
    assert times == [2]


def test_several_threads_make_keys_at_once(
    store: ObjectStore, stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those do that each bring a part of a snapshot to a cluster."""
    recorded = [stored.take(Path(chunk.path)) for chunk in written(stored, chunks=2)]
    other = Stored(store, tmp_path / "other")
    first, second = threading.Event(), threading.Event()
    get = store.get

    def slow(name: str, file: Path, size: int | None = None) -> bool:
        found = get(name, file, size)
        if "000000" in name:
            first.set()
            assert second.wait(10), "the other one is done"
        return found

    monkeypatch.setattr(store, "get", slow)
    made: list[Path] = []
    thread = threading.Thread(target=lambda: made.append(other.keys(recorded[0])))
    thread.start()
    assert first.wait(10)
    made.append(other.keys(recorded[1]))
    second.set()
    thread.join(10)
    assert [count_keys(path) for path in made] == [len(RECORDS)] * 2
    assert {len(key_hashes(path, SEED)) for path in made} == {len(RECORDS) * 16}
    for path in made:
        assert {one.name for one in path.parent.iterdir()} == {one.name for one in made}


def test_keys_that_somebody_reads_are_not_written_over(stored: Stored) -> None:
    """What was cut meanwhile would seem to be gone from the source."""
    (chunk,) = written(stored)
    stored.take(Path(chunk.path))
    kept = stored.keys(stored.recorded(Path(chunk.path)))
    with kept.open("rb") as file:
        stored.take(Path(chunk.path))
        assert os.fstat(file.fileno()).st_ino != kept.stat().st_ino
        assert file.read() == kept.read_bytes()


def test_a_worker_that_was_told_of_no_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="told of another one, or of none") as caught:
        Known(tmp_path / "known", RUN, 1).file(f"{STORED}01234567/{RUN}/0/gen-1/000000.chunk")
    assert "KEYFERRY_SPOOL_URL" in caught.value.hint


def test_a_worker_that_was_told_of_another_store_spoils_no_snapshot(stored: Stored, tmp_path: Path) -> None:
    """To it the file seems to be missing; another snapshot would be as well."""
    (chunk,) = written(stored)
    recorded = stored.take(Path(chunk.path))
    other = Stored(ObjectStore(f"file://{tmp_path}/wrong"), tmp_path / "other")
    for ask in (
        lambda: other.fetch(recorded, tmp_path / "here", chunk.size, lambda: None),
        lambda: other.fetch_tables(recorded, tmp_path / "here"),
        lambda: other.keys(recorded),
    ):
        with pytest.raises(ControlError, match="another one") as caught:
            ask()
        assert (caught.value.code, caught.value.retry) == ("spool-store", Retry.OTHER)
    assert Stored(ObjectStore(f"file://{tmp_path}/wrong"), stored.spool).keys(recorded).exists(), "what is here is here"
    assert Stored(ObjectStore(f"{stored.store.url}/"), tmp_path / "same").keys(recorded).exists()


class Recorder:
    """What a publisher has recorded, said and asked."""

    def __init__(self, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
        self.recorded: list[Closed] = []
        self.said: list[Exception] = []
        self.away = threading.Event()
        self.stopping = threading.Event()
        put = stored.store.put

        def maybe(file: Path, name: str) -> None:
            if self.away.is_set():
                raise StoreAway("the store is away")
            put(file, name)

        monkeypatch.setattr(stored.store, "put", maybe)
        monkeypatch.setattr(uploads_module, "LONGEST_PAUSE_S", 0.02)
        monkeypatch.setattr(uploads_module, "FIRST_PAUSE_S", 0.01)
        self.uploads = Uploads(stored, self.stopping.is_set)
        self.publisher = Publisher(
            self.recorded.append, self.say, self.stopping.is_set, uploads=self.uploads
        )

    def say(self, error: Exception) -> float:
        self.said.append(error)
        return 0.01


@pytest.fixture
def made(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(stored, monkeypatch)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_recorded_is_there_in_order_and_not_here_any_more(stored: Stored, made: Recorder) -> None:
    chunks = written(stored, chunks=12)
    for chunk in chunks:
        made.publisher.put(chunk)
    made.publisher.end(lambda: None)
    made.publisher.wait()
    assert [one.seq for one in made.recorded] == list(range(12))
    assert [one.path for one in made.recorded] == [stored.recorded(Path(one.path)) for one in chunks]
    assert not any(Path(one.path).exists() for one in chunks)
    assert made.said == []
    there = stored.fetch(made.recorded[5].path, stored.spool / "x" / "gen-1", chunks[5].size, lambda: None)
    stored.fetch_tables(made.recorded[5].path, there.parent)
    assert read_tables(there.parent)[0] == 11


def test_a_store_that_is_away_is_waited_for_and_said(stored: Stored, made: Recorder) -> None:
    made.away.set()
    chunks = written(stored, chunks=6)
    for chunk in chunks:
        made.publisher.put(chunk)
    until(lambda: made.said)
    assert isinstance(made.said[0], StoreAway)
    assert made.uploads.trouble is not None
    assert made.recorded == []
    assert all(Path(one.path).exists() for one in chunks)
    made.away.clear()
    made.publisher.end(lambda: None)
    made.publisher.wait()
    assert [one.seq for one in made.recorded] == list(range(6))
    assert made.uploads.trouble is None


def test_no_more_waits_here_than_may(stored: Stored, made: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    made.away.set()
    chunks = written(stored, chunks=4)
    monkeypatch.setattr(uploads_module, "HELD_BYTES", 2 * chunks[0].size)
    taken: list[int] = []

    def receive() -> None:
        for chunk in chunks:
            made.publisher.put(chunk)
            taken.append(chunk.seq)

    thread = threading.Thread(target=receive)
    thread.start()
    until(lambda: len(taken) == 2)
    time.sleep(0.2)
    assert len(taken) == 2, "the third is not taken before one is up"
    made.away.clear()
    thread.join(10)
    assert len(taken) == 4
    made.publisher.wait()


def test_a_snapshot_that_breaks_off_leaves_no_upload_behind(stored: Stored, made: Recorder) -> None:
    made.away.set()
    for chunk in written(stored, chunks=6):
        made.publisher.put(chunk)
    began = time.monotonic()
    made.publisher.abandon()
    assert time.monotonic() - began < 5
    assert made.recorded == []
    assert made.uploads.trouble is None, "it is over: no window is held open by it"


def test_nothing_is_recorded_before_the_end_of_what_is_held(stored: Stored) -> None:
    recorded: list[Closed] = []
    never = threading.Event().is_set
    publisher = Publisher(recorded.append, lambda _: 0.01, never, uploads=Uploads(stored, never), held=True)
    chunks = written(stored, chunks=3)
    for chunk in chunks:
        publisher.put(chunk)
    until(lambda: not any(Path(one.path).exists() for one in chunks))
    assert recorded == []
    publisher.end(lambda: None)
    publisher.wait()
    assert len(recorded) == 3


def test_of_what_is_held_it_is_said_too_why_no_more_is_taken(
    stored: Stored, made: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a file that is larger than what may wait here would wait for a store that is away, and nobody would know."""
    made.away.set()
    chunks = written(stored, chunks=3)
    monkeypatch.setattr(uploads_module, "HELD_BYTES", chunks[0].size)
    never = threading.Event().is_set
    publisher = Publisher(made.recorded.append, made.say, never, uploads=made.uploads, held=True)
    thread = threading.Thread(target=lambda: [publisher.put(chunk) for chunk in chunks])
    thread.start()
    until(lambda: made.said)
    assert isinstance(made.said[0], StoreAway)
    assert made.recorded == []
    made.away.clear()
    thread.join(10)
    publisher.end(lambda: None)
    publisher.wait()
    assert len(made.recorded) == 3


def test_snapshots_that_are_loaded_go_and_later_ones_stay(store: ObjectStore, stored: Stored) -> None:
    for gen in (1, 2, 3):
        for chunk in written(stored, gen):
            stored.take(Path(chunk.path))
    remove_snapshots(store, f"{RUN}/0", 2).join(10)
    assert store.below(f"{RUN}/0") == ["gen-3"]


def test_only_ended_runs_go(store: ObjectStore, stored: Stored) -> None:
    for chunk in written(stored):
        stored.take(Path(chunk.path))
    store.put(Path(__file__), "theirs/file")
    sweep_store(store, lambda _: set()).join(10)
    assert store.below() == [RUN, "theirs"]
    sweep_store(store, lambda found: set(found)).join(10)
    assert store.below() == ["theirs"]


def test_removal_is_tried_until_the_store_is_back(
    store: ObjectStore, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    for chunk in written(stored):
        stored.take(Path(chunk.path))
    monkeypatch.setattr("workers.spool.removing.FIRST_PAUSE_S", 0.01)
    below, fails = store.below, [StoreAway("away")] * 3

    def maybe(name: str = "") -> list[str]:
        if fails:
            raise fails.pop()
        return below(name)

    monkeypatch.setattr(store, "below", maybe)
    remove_snapshots(store, f"{RUN}/0", 1).join(10)
    assert below(f"{RUN}/0") == []
    assert stored_module.FETCHED not in below()
