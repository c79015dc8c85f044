"""What a spool holds, sealed: nothing is read without the key, changed unseen, or lost by a changed key."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_tasks.errors import ControlError
from sync_tasks.objects import ObjectStore
from sync_tasks.secrets import new_key
from tests.unit.codec.rdb import record
from workers.aside import Kept
from workers.load_transformed import records
from workers.spool import sealing
from workers.spool.chunks import ChunkWriter, Closed, contents, count_keys, key_hashes, keys_of, volatile_keys
from workers.spool.known import Known
from workers.spool.log import Cursor, Log
from workers.spool.scripts import Scripts
from workers.spool.sealing import OVERHEAD, Seal, opened, size_of
from workers.spool.stored import Stored
from workers.spool.sums import is_intact
from workers.spool.tables import read_tables, write_tables

MARKER = b"plainly-visible"
REPLID, SEED = "a" * 40, b"0123456789abcdef"
KEY, OTHER = new_key(), new_key()
RECORDS = [record(MARKER + b"%d" % n, 0, MARKER * 20, n if n % 3 else -1) for n in range(500)]


@pytest.fixture(autouse=True)
def sealed() -> Iterator[None]:
    sealing.use(Seal(KEY), True)
    yield
    sealing.use(None)


def nothing_is_seen(place: Path) -> None:
    for path in place.rglob("*"):
        assert not path.is_file() or MARKER not in path.read_bytes(), path


def written(directory: Path) -> Closed:
    found: list[Closed] = []
    writer = ChunkWriter(directory, found.append)
    for start in range(0, len(RECORDS), 100):
        writer.add(0, 0, b"".join(RECORDS[start : start + 100]), 100)
    writer.close_all(0)
    return found[0]


def plain(directory: Path) -> Path:
    sealing.use(Seal(KEY))
    path = Path(written(directory).path)
    sealing.use(Seal(KEY), True)
    return path


def test_a_chunk_says_what_it_would_in_the_clear(tmp_path: Path) -> None:
    clear, chunk = plain(tmp_path / "clear"), written(tmp_path / "sealed")
    path = Path(chunk.path)
    nothing_is_seen(tmp_path / "sealed")
    assert is_intact(path)
    assert size_of(path) == chunk.size == clear.stat().st_size < path.stat().st_size
    with contents(path) as data:
        assert bytes(data) == clear.read_bytes()
    for ask in (count_keys, volatile_keys, lambda one: key_hashes(one, SEED), lambda one: list(keys_of(one))):
        assert ask(path) == ask(clear)  # type: ignore[operator]


def test_a_transform_sees_the_same_records(tmp_path: Path) -> None:
    clear, path = plain(tmp_path / "clear"), Path(written(tmp_path / "sealed").path)
    for start in (0, len(RECORDS[0]) * 1):
        seen = [[(r.end, r.key, r.when, r.kind, r.value.read()) for r in records(one, start)] for one in (clear, path)]
        assert seen[0] == seen[1] != []


def test_a_file_is_read_from_anywhere(tmp_path: Path) -> None:
    clear, path = plain(tmp_path / "clear").read_bytes(), Path(written(tmp_path / "sealed").path)
    with opened(path) as file:
        for at in (0, 5000, 100, len(clear) - 3, len(clear), len(clear) + 9):
            file.seek(at)
            assert file.read(777) == clear[at : at + 777]
        assert file.seek(-5, io.SEEK_END) == len(clear) - 5
        assert file.read() == clear[-5:]


def test_a_huge_value(tmp_path: Path) -> None:
    found: list[Closed] = []
    writer = ChunkWriter(tmp_path, found.append)
    writer.begin_huge(MARKER, -1, 1)
    for _ in range(5):
        writer.part(MARKER * 1000)
    writer.end_huge(0, 0)
    nothing_is_seen(tmp_path)
    path = Path(found[0].path)
    assert (size_of(path), list(keys_of(path))) == (found[0].size, [MARKER])
    with opened(path) as file:
        assert file.read()[-len(MARKER) * 5000 :] == MARKER * 5000


def test_files_of_an_object_store(tmp_path: Path) -> None:
    stored = Stored(ObjectStore(f"file://{tmp_path}/store"), tmp_path / "spool")
    chunk = written(tmp_path / "spool" / "run" / "0" / "gen-1")
    recorded = stored.take(Path(chunk.path))
    Path(chunk.path).unlink()
    kept = stored.keys(recorded)
    nothing_is_seen(tmp_path)
    assert count_keys(kept) == len(RECORDS)
    path = stored.fetch(recorded, tmp_path / "here", chunk.size, lambda: None)
    assert count_keys(path) == len(RECORDS)
    assert count_keys(Stored(stored.store, tmp_path / "elsewhere").keys(recorded)) == len(RECORDS)
    nothing_is_seen(tmp_path)


def log_with(directory: Path, blocks: int = 3) -> Log:
    log = Log(directory, 1)
    log.reset(REPLID, 100)
    for number in range(blocks):
        log.append(MARKER + b"%d" % number, 5, 0)
    return log


def read(log: Log) -> bytes:
    cursor, found = Cursor(log, 100), b""
    while (block := cursor.read()) is not None:
        found += block.data
    cursor.close()
    return found


def test_the_log(tmp_path: Path) -> None:
    expected = b"".join(MARKER + b"%d" % number for number in range(3))
    log = log_with(tmp_path)
    log.close()
    nothing_is_seen(tmp_path)
    assert read(log) == expected
    again = Log(tmp_path, 2)
    assert (again.start, again.end) == (100, 100 + len(expected))
    sealing.use(Seal(KEY))
    again.append(b"clear", 5)
    sealing.use(Seal(OTHER + b" " + KEY), True)
    again.append(b"by another key", 5)
    again.close()
    third = Log(tmp_path, 3)
    assert read(third) == expected + b"clear" + b"by another key", "each block says how it is"
    cursor = Cursor(third, 105)
    block = cursor.read()
    assert block is not None
    assert block.data == (MARKER + b"0")[5:]


def test_a_torn_log_is_cut(tmp_path: Path) -> None:
    log = log_with(tmp_path)
    log.close()
    (segment,) = tmp_path.glob("*.seg")
    os.truncate(segment, segment.stat().st_size - 1)
    assert Log(tmp_path, 2).end == 100 + 2 * (len(MARKER) + 1)


def test_another_key_is_said_and_nothing_is_taken_for_damaged(tmp_path: Path) -> None:
    log, chunk = log_with(tmp_path / "log"), written(tmp_path / "chunks")
    write_tables(tmp_path, 11, [MARKER], [])
    known = Known(tmp_path / "known", "uid", 1)
    known.create()
    sealing.use(Seal(OTHER), True)
    for ask in (
        lambda: read(log), lambda: count_keys(Path(chunk.path)), lambda: read_tables(tmp_path),
        lambda: Known(tmp_path / "known", "uid", 2),
    ):  # fmt: skip
        with pytest.raises(ControlError, match="another key") as caught:
            ask()
        assert caught.value.code == "spool-key"
    assert not log.damaged
    sealing.use(None)
    with pytest.raises(ControlError, match="another key"):
        read(log)
    sealing.use(Seal(OTHER + b" " + KEY), True)
    assert read(log)
    assert count_keys(Path(chunk.path)) == len(RECORDS)
    assert read_tables(tmp_path) == (11, [MARKER], [])
    assert Known(tmp_path / "known", "uid", 2).whole, "and is not forgotten by who had the wrong one"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("at", [8, 30, 60, -1])
def test_bits_are_found(tmp_path: Path, at: int) -> None:
    path = Path(written(tmp_path / "chunks").path)
    flip(path, at)
    assert not is_intact(path)
    log = log_with(tmp_path / "log")
    (segment,) = (tmp_path / "log").glob("*.seg")
    flip(segment, at)
    with pytest.raises(ControlError) as caught:
        read(log)
    assert caught.value.code == "log-damaged"
    write_tables(tmp_path, 11, [MARKER], [])
    flip(tmp_path / "tables.json", at)
    with pytest.raises(ControlError) as caught:
        read_tables(tmp_path)
    assert caught.value.code == "snapshot-damaged"


def test_who_corrects_the_checksum_too_is_found(tmp_path: Path) -> None:
    """A piece in the place of another, a bit of one."""
    from zlib_ng.zlib_ng import crc32

    path = Path(written(tmp_path).path)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    forged = path.with_name(f"000000.sealed.{crc32(bytes(data)):08x}.chunk")
    forged.write_bytes(data)
    assert is_intact(forged)
    with pytest.raises(ControlError, match="changed since it was sealed"):
        count_keys(forged)
    seal = sealing.reading()
    with pytest.raises(ValueError, match="changed"):
        seal.open(sealing.piece(seal, 1, b"x")[4:], b"2")


def test_small_files(tmp_path: Path) -> None:
    write_tables(tmp_path, 11, [MARKER], [MARKER])
    scripts = Scripts(tmp_path / "scripts")
    for body in (MARKER, b"return 1"):
        scripts.add(body)
    nothing_is_seen(tmp_path)
    assert read_tables(tmp_path) == (11, [MARKER], [MARKER])
    sealing.use(Seal(KEY))
    Scripts(tmp_path / "scripts").add(b"in the clear")
    again = Scripts(tmp_path / "scripts")
    assert again.get(scripts_digest(MARKER)) == MARKER
    assert again.get(scripts_digest(b"in the clear")) == b"in the clear"


def scripts_digest(body: bytes) -> bytes:
    import hashlib

    return hashlib.sha1(body).hexdigest().encode()


def test_values_that_wait_in_a_file_of_no_name(tmp_path: Path) -> None:
    whole = os.urandom(100_000) + MARKER * 1000
    kept = Kept(tmp_path, len(whole))
    for start in range(0, len(whole), 7777):
        kept.append(whole[start : start + 7777])
    assert kept.whole() == whole
    assert b"".join(kept.read(33_333, 50_000)) == whole[33_333:83_333]
    assert MARKER not in os.pread(kept._file.fileno(), 200_000, 0)


def test_what_it_costs_on_disk(tmp_path: Path) -> None:
    seal = sealing.reading()
    assert len(seal.seal(b"x" * 100)) == 100 + OVERHEAD == 132
    assert seal.seal(b"x") != seal.seal(b"x")
