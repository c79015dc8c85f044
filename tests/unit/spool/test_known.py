"""The list of the keys that were brought to the target: nothing is missing, or it says so."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from zlib_ng.zlib_ng import crc32

from tests.unit.protocol.faulty import record
from workers.codec.digest_cy import key_hash
from workers.codec.resp_cy import encode
from workers.spool import hash_files
from workers.spool import known as module
from workers.spool.hash_files import HashFiles
from workers.spool.known import Known
from workers.spool.log import Log
from workers.spool.sums import sealed

UID = "0123456789abcdef"
REPLID = "a" * 40


@pytest.fixture
def log(tmp_path: Path) -> Log:
    made = Log(tmp_path / "log")
    made.reset(REPLID, 100)
    return made


@pytest.fixture
def known(tmp_path: Path) -> Known:
    made = Known(tmp_path / "known", UID, 1)
    made.create()
    made.begin(100, 0)
    return made


def write(log: Log, *commands: str | list[bytes]) -> None:
    for command in commands:
        log.append(encode(command if isinstance(command, list) else command.encode().split()), 1)


def has(known: Known, db: int, *keys: str) -> list[str]:
    """Which of the keys are in."""
    hashes = known.part(db, 0, 0)
    found = {hashes[at : at + 16] for at in range(0, len(hashes), 16)}
    return [key for key in keys if key_hash(key.encode(), UID.encode()) in found]


CREATES = [
    ("SET a 1", "a"), ("SET a 1 KEEPTTL", "a"), ("MSET a 1 b 2", "a b"), ("RENAME x a", "a"), ("RENAMENX x a", "a"),
    ("COPY x a", "a"), ("COPY x a REPLACE", "a"), ("LMOVE x a LEFT RIGHT", "a"), ("RPOPLPUSH x a", "a"),
    ("SMOVE x a member", "a"), ("BITOP AND a x", "a"), ("SUNIONSTORE a x", "a"), ("ZUNIONSTORE a 1 x", "a"),
    ("SORT x LIMIT 0 1 STORE a", "a"), ("GEORADIUS x 1 2 3 m STOREDIST a", "a"), ("XGROUP CREATE a g $ MKSTREAM", "a"),
    ("PFMERGE a x", "a"), ("EVAL script 2 a b c", "a b"), ("MSETEX 2 a 1 b 2 EX 3", "a b"), ("LPUSH a x", "a"),
    ("JSON.SET a $ 1", "a"), ("JSON.MSET a $ 1 b $ 2", "a b"), ("MSETNX a 1 b 2", "a b"), ("hset a f v", "a"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "keys"), CREATES)
def test_what_a_command_may_bring_into_being(known: Known, log: Log, command: str, keys: str) -> None:
    write(log, command)
    known.fold(log)
    assert has(known, 0, *keys.split()) == keys.split()
    assert not has(known, 0, "1", "2", "$", "x" if "x" not in keys else "-", "member", "script", "c", "v")


def test_databases(known: Known, log: Log) -> None:
    write(log, "SET a 1", "SELECT 3", "SET b 1", "MOVE b 4", "COPY b c DB 5", "SELECT 6", "SET d 1", "PUBLISH e f")
    known.fold(log)
    assert [has(known, db, *"abcdef") for db in (0, 3, 4, 5, 6)] == [["a"], ["b"], ["b"], ["c"], ["d"]]
    assert known.databases() == [0, 3, 4, 5, 6]


def test_databases_that_are_swapped_share_what_they_have(known: Known, log: Log, tmp_path: Path) -> None:
    """However often: it is put down once."""
    write(log, "SET a 1", "SELECT 3", "SET b 1", *["SWAPDB 0 3", "SWAPDB 3 9"] * 200, "SET c 1", "SELECT 9", "SET d 1")
    known.fold(log)
    assert [has(known, db, *"abcd") for db in (0, 3, 9)] == [[*"abcd"]] * 3
    assert known.count(3) < 10
    again = Known(tmp_path / "known", UID, 2)
    assert [has(again, db, *"abcd") for db in (0, 3, 9)] == [[*"abcd"]] * 3


def test_it_goes_on_where_it_was(known: Known, log: Log, tmp_path: Path) -> None:
    """A command may lie across blocks, and across two turns; the stream's database is kept."""
    first = encode([b"SELECT", b"7"]) + encode([b"SET", b"a", b"1"])
    second = encode([b"SET", b"b", b"x" * 5000])
    log.append(first + second[:1000], 1)
    known.fold(log)
    assert known.offset == 100 + len(first)
    again = Known(tmp_path / "known", UID, 2)
    log.append(second[1000:], 1)
    again.fold(log)
    assert has(again, 7, "a", "b") == ["a", "b"]
    assert again.offset == log.end


def test_no_further_than_it_is_told(known: Known, log: Log) -> None:
    write(log, "SET a 1")
    stop = log.end
    write(log, "SET b 1")
    known.fold(log, stop)
    assert (known.offset, has(known, 0, "a", "b")) == (stop, ["a"])
    known.fold(log)
    assert has(known, 0, "a", "b") == ["a", "b"]


def test_a_long_log_in_steps(known: Known, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP_BYTES", 100)
    keys = [f"key{i}" for i in range(500)]
    for key in keys:
        write(log, [b"SET", key.encode(), b"x" * (int(key[3:]) % 7 * 50)])
    known.fold(log)
    assert has(known, 0, *keys) == keys


def test_files_are_sorted_once_they_have_grown(
    known: Known, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_files, "LOOSE_BYTES", 1000)
    monkeypatch.setattr(hash_files, "PART_HASHES", 20)
    for turn in range(40):
        write(log, *[f"SET key{i} 1" for i in range(50)], f"SET more{turn} 1")
        known.fold(log)
    assert has(known, 0, "key0", "key49", "more0", "more39") == ["key0", "key49", "more0", "more39"]
    assert known.count(0) < 300, "and not 2040"
    again = Known(tmp_path / "known", UID, 2)
    assert again.whole
    assert has(again, 0, "key0", "more39") == ["key0", "more39"]
    assert len([*(tmp_path / "known").iterdir()]) == 2


def test_a_snapshot(known: Known, tmp_path: Path) -> None:
    path = tmp_path / "0.chunk"
    path.write_bytes(b"".join(map(record, [b"a", b"b"])))
    known.add(2, [(3, path, 2)])
    assert has(known, 3, "a", "b") == ["a", "b"]
    assert known.gens == {1, 2}
    known.add(2, [(3, path, 2)])
    assert known.count(3) == 2


def lacks(known: Known, log: Log, tmp_path: Path) -> None:
    path = tmp_path / "0.chunk"
    path.write_bytes(record(b"a"))
    known.add(1, [(0, path, 2)])


def has_another_byte(known: Known, log: Log, tmp_path: Path) -> None:
    data = record(b"a") + record(b"b")
    path = tmp_path / "0.chunk"
    path.write_bytes(data)
    path = Path(sealed(str(path), crc32(data)))
    path.write_bytes(data.replace(b"b", b"c"))
    known.add(1, [(0, path, 2)])


def skips(known: Known, log: Log, tmp_path: Path) -> None:
    known.go_on(101, 0)


def begins_later(known: Known, log: Log, tmp_path: Path) -> None:
    write(log, "SET a 1")
    known.fold(log)
    log.reset(REPLID, 150)
    write(log, "SET a 1")
    known.fold(log)


def damaged(known: Known, log: Log, tmp_path: Path) -> None:
    write(log, "SET a 1")
    file = log.segments[-1].path
    file.write_bytes(file.read_bytes()[:-3] + b"XXX")
    known.fold(log, log.end)


def no_stream(known: Known, log: Log, tmp_path: Path) -> None:
    log.append(b"what is this\r\n", 1)
    known.fold(log)


@pytest.mark.parametrize("how", [lacks, has_another_byte, skips, begins_later, damaged, no_stream])
def test_what_is_missing_is_known_to_be(
    known: Known, log: Log, tmp_path: Path, how: Callable[[Known, Log, Path], None]
) -> None:
    assert known.whole
    how(known, log, tmp_path)
    assert not known.whole
    assert not Known(tmp_path / "known", UID, 2).whole
    known.fold(log)
    known.begin(100, 0)
    known.add(1, [])
    assert not known.whole, "nothing makes it whole again"


def test_damage_that_is_fetched_again_does_no_harm(known: Known, log: Log, tmp_path: Path) -> None:
    """Where the log begins anew, what can be read is taken in, and who begins it says where."""
    write(log, "SET a 1")
    good = log.end
    write(log, "SET b 1")
    file = log.segments[-1].path
    file.write_bytes(file.read_bytes()[:-3] + b"XXX")
    known.fold(log)
    assert (known.whole, known.offset, has(known, 0, "a", "b")) == (True, good, ["a"])
    assert not log.damaged, "the applier may never need it"
    known.go_on(good or 0, 0)
    log.reset(REPLID, good or 0)
    write(log, "SET b 1")
    known.fold(log)
    assert has(known, 0, "a", "b") == ["a", "b"]


def test_it_is_told_of_a_new_log_before_there_is_one(known: Known, log: Log, tmp_path: Path) -> None:
    """A death in between leaves the log before, which may begin at higher offsets."""
    write(log, "SET a 1")
    known.fold(log)
    known.begin(7, 2)
    known.fold(log)
    again = Known(tmp_path / "known", UID, 2)
    again.fold(log)
    assert (again.whole, again.offset) == (True, 7)
    log.reset("b" * 40, 7)
    write(log, "SET b 1")
    again.fold(log)
    assert (has(again, 0, "a"), has(again, 2, "b")) == (["a"], ["b"])


@pytest.mark.parametrize("sort", [False, True])
def test_an_owner_that_was_asleep_changes_nothing(
    known: Known, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sort: bool
) -> None:
    write(log, "SET a 1")
    known.fold(log)
    write(log, *[f"SET late{i} 1" for i in range(20)])
    successor = Known(tmp_path / "known", UID, 2)
    here = Log(tmp_path / "log", 7)
    write(here, *[f"SET new{i} 1" for i in range(50)])
    successor.fold(here)
    if sort:
        monkeypatch.setattr(hash_files, "LOOSE_BYTES", 0)
    known.fold(log)
    known.begin(5, 5)
    known.forget()
    for epoch in (2, 3):
        reader = successor if epoch == 2 else Known(tmp_path / "known", UID, epoch)
        assert reader.whole
        assert has(reader, 0, "a", "late19", "new0", "new49") == ["a", "late19", "new0", "new49"]


def test_a_death_between_two_databases_leaves_what_was(
    known: Known, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the first is sorted meanwhile."""
    monkeypatch.setattr(hash_files, "LOOSE_BYTES", 0)
    write(log, "SET a 1", "SELECT 1", "SET b 1")
    put = HashFiles._put

    def dies(self: HashFiles, name: str, data: bytes, size: int) -> None:
        if name.startswith("1-"):
            raise SystemExit
        put(self, name, data, size)

    monkeypatch.setattr(HashFiles, "_put", dies)
    with pytest.raises(SystemExit):
        known.fold(log)
    monkeypatch.setattr(HashFiles, "_put", put)
    again = Known(tmp_path / "known", UID, 2)
    assert (again.whole, again.offset) == (True, 100)
    again.fold(log)
    assert (has(again, 0, "a"), has(again, 1, "b")) == (["a"], ["b"])


def test_a_long_log_leaves_no_files_behind(
    known: Known, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were sorted into one go at once: a log of days would fill the disk with them."""
    monkeypatch.setattr(hash_files, "LOOSE_BYTES", 1600)
    monkeypatch.setattr(module, "STEP_BYTES", 1000)
    write(log, *[f"INCR {number % 50}" for number in range(5000)])
    sizes = []
    put = HashFiles._put

    def measured(self: HashFiles, name: str, data: bytes, size: int) -> None:
        put(self, name, data, size)
        sizes.append(sum(path.stat().st_size for path in (tmp_path / "known").iterdir()))

    monkeypatch.setattr(HashFiles, "_put", measured)
    known.fold(log)
    assert has(known, 0, *map(str, range(50))) == [*map(str, range(50))]
    assert max(sizes) < 10_000, "of 80,000 bytes of hashes"


def test_our_own_file_lost_its_end(known: Known, log: Log, tmp_path: Path) -> None:
    """What is put down behind that would leave a hole of keys that nobody has."""
    write(log, "SET a 1")
    known.fold(log)
    (tmp_path / "known" / "0-1-1").write_bytes(b"")
    write(log, "SET b 1")
    known.fold(log)
    assert not known.whole


def test_a_file_that_lost_its_end(known: Known, log: Log, tmp_path: Path) -> None:
    write(log, "SET a 1", "SET b 1")
    known.fold(log)
    file = tmp_path / "known" / "0-1-1"
    data = file.read_bytes()
    file.write_bytes(data + b"begun and not recorded")
    assert has(Known(tmp_path / "known", UID, 2), 0, "a", "b") == ["a", "b"]
    file.write_bytes(data[:-1])
    assert not Known(tmp_path / "known", UID, 2).whole


def test_a_full_disk(known: Known, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log must be able to shrink; that something is missing is known."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    write(log, "SET a 1")
    monkeypatch.setattr("os.writev", full)
    known.fold(log)
    assert not known.whole


def test_what_comes_twice_does_no_harm(known: Known, log: Log) -> None:
    write(log, "SELECT 2", "SET a 1")
    known.fold(log)
    known.go_on(100, 0)
    log.reset(REPLID, 100)
    write(log, "SELECT 3", "SET b 1")
    known.fold(log)
    assert (has(known, 2, "a"), has(known, 3, "b")) == (["a"], ["b"])
