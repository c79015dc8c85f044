"""The log on disk: torn tails, segments, cursors."""

from __future__ import annotations

from pathlib import Path

import pytest
from zlib_ng.zlib_ng import crc32

from sync_tasks.errors import ControlError
from tests.unit.protocol.conftest import REPLID
from workers.spool import log as module
from workers.spool.log import BACKLOG, HEADER, Block, Cursor, Log


def _read(cursor: Cursor) -> list[Block]:
    out = []
    while (block := cursor.read()) is not None:
        out.append(block)
    return out


@pytest.mark.parametrize("cut", [1, HEADER.size - 1, HEADER.size, HEADER.size + 1, HEADER.size + 9])
def test_a_torn_tail_is_cut_and_written_again(tmp_path: Path, cut: int) -> None:
    log = Log(tmp_path)
    log.reset(REPLID, 1000)
    log.append(b"a" * 10, 1)
    size = log.segments[-1].size
    log.append(b"b" * 10, 2)
    path = log.segments[-1].path
    log.close()
    with path.open("r+b") as file:
        file.truncate(size + cut)
    again = Log(tmp_path)
    assert (again.end, again.replid, path.stat().st_size) == (1010, REPLID, size)
    again.append(b"c" * 5, 3, BACKLOG)
    assert b"".join(b.data for b in _read(Cursor(again, 1000))) == b"a" * 10 + b"c" * 5


def test_a_flipped_bit_in_the_tail_is_cut_in_the_middle_is_an_error(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.reset(REPLID, 0)
    for letter in b"ab":
        log.append(bytes([letter]) * 10, 1)
    path = log.segments[-1].path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert Log(tmp_path).end == 10
    data[HEADER.size] ^= 1
    path.write_bytes(data[: HEADER.size + 10])
    with pytest.raises(ControlError):
        Cursor(log, 0).read()


@pytest.mark.parametrize("at", range(HEADER.size + 10))
def test_a_flipped_bit_of_a_block_is_an_error_wherever_it_is(tmp_path: Path, at: int) -> None:
    """In the moment of receipt it would give keys another time to live, and nobody would know."""
    log = Log(tmp_path)
    log.reset(REPLID, 0)
    for letter in b"ab":
        log.append(bytes([letter]) * 10, 1_700_000_000_000, BACKLOG)
    path = log.segments[-1].path
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(ControlError):
        Cursor(log, 0).read()
    assert Log(tmp_path).end in (None, 0), "what is behind it cannot be trusted, either"


def test_a_block_that_seems_to_be_read_already_is_not_passed_over(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.reset(REPLID, 990)
    for letter in b"abc":
        log.append(bytes([letter]) * 10, 1)
    cursor = Cursor(log, 990)
    assert cursor.read() == Block(990, 1, 0, REPLID, b"a" * 10)
    path = log.segments[-1].path
    data = bytearray(path.read_bytes())
    data[HEADER.size + 10 + 9] ^= 2  # the second block's offset: 1000 becomes 488
    path.write_bytes(data)
    with pytest.raises(ControlError):
        cursor.read()


def test_blocks_of_an_older_version_are_read(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.reset(REPLID, 0)
    log.append(b"new", 5)
    path = log.segments[-1].path
    old = HEADER.pack(module.FORMER, 3, 0, 5, BACKLOG, crc32(b"old")) + b"old"
    path.write_bytes(old + HEADER.pack(module.FORMER, 3, 3, 6, 0, crc32(b"...") ^ 1) + b"...")
    again = Log(tmp_path)
    assert again.end == 3
    assert _read(Cursor(again, 0)) == [Block(0, 5, BACKLOG, REPLID, b"old")]


@pytest.mark.parametrize("begin", range(0, 60, 7))
def test_a_cursor_starts_anywhere_and_crosses_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: int
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 64)
    log = Log(tmp_path)
    log.reset(REPLID, 0)
    stream = bytes(range(60))
    for at in range(0, 60, 5):
        if at == 30:
            log.rename("b" * 40)
        log.append(stream[at : at + 5], at)
    assert len(log.segments) > 3
    assert log.covers(REPLID, 30)
    assert log.covers("b" * 40, 30)
    for one in (log, Log(tmp_path)):
        blocks = _read(Cursor(one, begin))
        assert b"".join(b.data for b in blocks) == stream[begin:]
        assert blocks[0].offset == begin
        assert [b.replid[0] for b in blocks] == ["a" if b.offset < 30 else "b" for b in blocks]


def test_a_cursor_follows_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 40)
    log = Log(tmp_path)
    log.reset(REPLID, 5)
    cursor = Cursor(log, 5)
    got = b""
    for i in range(50):
        assert cursor.read() is None
        log.append(bytes([i]) * 3, i)
        block = cursor.read()
        assert block is not None
        got += block.data
        if i % 10 == 9:
            log.prune(cursor.offset)
    assert got == b"".join(bytes([i]) * 3 for i in range(50))
    assert len(log.segments) <= 3
    assert cursor.offset == log.end == 155


def test_reset_forgets_and_prune_keeps_what_is_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 10)
    log = Log(tmp_path)
    log.reset(REPLID, 0)
    for _ in range(6):
        log.append(b"x" * 10, 0)
    log.prune(35, keep=1)
    assert log.start == 20
    assert log.covers(REPLID, 35)
    log.reset("c" * 40, 7)
    assert (log.start, log.end, log.replid) == (7, 7, "c" * 40)
    assert [p.name[:20] for p in tmp_path.iterdir()] == ["00000000000000000007"]


def test_an_owner_that_was_asleep_removes_no_file_that_was_empty_when_it_looked(tmp_path: Path) -> None:
    first = Log(tmp_path, 1)
    first.reset(REPLID, 0)
    asleep = Log(tmp_path, 2)
    first.append(b"abc", 1)
    third = Log(tmp_path, 3)
    asleep.append(b"abc", 1)
    block = Cursor(third, 0).read()
    assert block is not None
    assert block.data == b"abc"


def test_a_segment_that_is_gone_is_fetched_again(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.reset(REPLID, 0)
    log.append(b"abc", 1)
    log.segments[0].path.unlink()
    with pytest.raises(ControlError, match="missing"):
        Cursor(log, 0).read()
    assert not log.covers(REPLID, 0)
    log.want(REPLID, 0, 0)
    assert log.wanted == (REPLID, 0, 0)
