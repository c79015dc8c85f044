"""Counting the files of a spool."""

from __future__ import annotations

from pathlib import Path

from sync_tasks.observe.spooled import EVERY_S, SpoolUse


def test_files_are_counted_again_only_after_a_while(tmp_path: Path) -> None:
    now = [0.0]
    use = SpoolUse(tmp_path, lambda: now[0])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"123")
    assert use.now().by_uid["a"] == 3
    (tmp_path / "a" / "two").write_bytes(b"4567")
    now[0] = EVERY_S - 0.1
    assert use.now().used == 3
    now[0] = EVERY_S
    assert use.now().used == 7


def test_a_spool_that_is_not_there_yet(tmp_path: Path) -> None:
    use = SpoolUse(tmp_path / "none")
    assert use.now().used == 0
    assert use.room() is None
