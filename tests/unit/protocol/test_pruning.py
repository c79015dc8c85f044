"""The log is let go of behind the target, in larger steps while much comes in."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers import pruning
from workers.codec.resp_cy import encode
from workers.pruning import Pruning
from workers.spool.known import Known
from workers.spool.log import Log

REPLID = "a" * 40
BLOCK = encode([b"SET", b"k", b"x" * 1000]) * 8  # of whole commands


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setattr("workers.spool.log.SEGMENT_BYTES", 4 * len(BLOCK))
    monkeypatch.setattr(pruning, "LEAST_BYTES", 8 * len(BLOCK))
    monkeypatch.setattr(pruning, "BUSY_LEAST_BYTES", 100 * len(BLOCK))
    monkeypatch.setattr(pruning, "BUSY_BYTES", 10 * len(BLOCK))
    made = Log(tmp_path / "log", 1)
    made.reset(REPLID, 0)
    return made


def grow(log: Log, blocks: int) -> int:
    for _ in range(blocks):
        log.append(BLOCK, 1)
    return log.end or 0


def test_in_steps(log: Log, tmp_path: Path) -> None:
    known = Known(tmp_path / "known", "uid", 1)
    known.create()
    known.begin(0, 0)
    made = Pruning(log, known)
    made.turn(grow(log, 8))
    assert log.start == 0, "too little"
    made.turn(grow(log, 8))
    assert log.start == 4 * len(BLOCK), "two segments stay, and the last"
    assert known.offset == 16 * len(BLOCK)
    made.turn(grow(log, 50))
    assert known.offset == 16 * len(BLOCK), "much comes in"
    made.turn(log.end or 0)
    assert known.offset == log.end, "nothing came in since"
    made.turn(grow(log, 101))
    assert known.offset == log.end, "much comes in, but it is much by now"
