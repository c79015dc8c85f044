"""A log whose files lost something: at the end, in the middle, or while it is read."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from sync_tasks.errors import ControlError, Retry
from workers.spool import log as module
from workers.spool.log import HEADER, Cursor, Log

REPLID = "a" * 40


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    """Four segments of two blocks of ten bytes each, closed."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 2 * (HEADER.size + 10))
    log = Log(tmp_path)
    log.reset(REPLID, 0)
    for number in range(8):
        log.append(bytes([number]) * 10, 1)
    log.close()
    assert len(log.segments) == 4
    return log


@pytest.mark.parametrize("whole", [0, 1])
@pytest.mark.parametrize("kept", [0, HEADER.size, HEADER.size + 3])
def test_a_tail_of_zeros_is_cut(filled: Log, tmp_path: Path, whole: int, kept: int) -> None:
    """A file system may have the length of what was written, and not the bytes."""
    path = filled.segments[-1].path
    size = path.stat().st_size
    good = whole * (HEADER.size + 10)
    path.write_bytes(path.read_bytes()[: good + kept].ljust(size, b"\0"))
    again = Log(tmp_path)
    assert (again.end, path.stat().st_size) == (60 + 10 * whole, good)
    assert again.wanted is None, "what follows is simply asked for"


@pytest.mark.parametrize("left", ["nothing", "no file", "one block", "zeros"])
def test_behind_a_hole_the_log_begins_anew_where_it_is_needed(filled: Log, tmp_path: Path, left: str) -> None:
    path = filled.segments[1].path
    data = path.read_bytes()
    if left == "no file":
        path.unlink()
    else:
        path.write_bytes({"nothing": b"", "one block": data[: len(data) // 2], "zeros": bytes(len(data))}[left])
    again = Log(tmp_path)
    assert again.end == 80, "the newest part is kept: it may be all that is needed"
    again.want(REPLID, 45, 3)
    assert again.wanted is None
    assert again.covers(REPLID, 45)
    again.want(REPLID, 15, 3)
    assert again.wanted == (REPLID, 15, 3)
    again.reset(REPLID, 15)
    assert (again.start, again.end, again.wanted) == (15, 15, None)
    assert Log(tmp_path).end == 15


def test_an_end_that_is_missing_still_is_waited_for(filled: Log) -> None:
    filled.want(REPLID, 90, 3)
    assert filled.wanted is None


@pytest.mark.parametrize("spoil", ["bit", "short", "gone"])
def test_a_block_that_cannot_be_read_is_fetched_again(filled: Log, spoil: str) -> None:
    path = filled.segments[2].path
    data = bytearray(path.read_bytes())
    data[HEADER.size] ^= 1
    path.write_bytes({"bit": bytes(data), "short": bytes(data[: HEADER.size - 1]), "gone": b""}[spoil])
    cursor = Cursor(filled, 0)
    for _ in range(4):
        assert cursor.read()
    with pytest.raises(ControlError) as caught:
        cursor.read()
    assert caught.value.retry is Retry.OTHER
    filled.want(REPLID, 30, 3)
    assert filled.wanted == (REPLID, 30, 3), "the log does not count as reaching there any more"


def test_the_end_can_be_asked_for_while_segments_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1)
    log = Log(tmp_path)
    errors: list[BaseException] = []
    over = threading.Event()

    def ask() -> None:
        cursor = Cursor(log, 0)
        while not over.is_set():
            try:
                _ = log.end, log.start, log.replid
                log.prune(log.end or 0, keep=0)
                cursor.offset = 1 << 40
                cursor.read()
            except BaseException as error:
                errors.append(error)
                return

    reader = threading.Thread(target=ask)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        reader.start()
        began = time.monotonic()
        offset = 0
        while time.monotonic() - began < 1 and not errors:
            log.reset(REPLID, offset)
            log.rename("b" * 40)
            log.append(b"x", 1)
            log.rename(REPLID)
            offset = log.end or 0
    finally:
        over.set()
        reader.join()
        sys.setswitchinterval(interval)
        log.close()
    assert errors == []
    assert [s.path for s in log.segments] == sorted(tmp_path.iterdir()), "what is listed is what is there"
