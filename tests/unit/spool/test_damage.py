"""Files of a snapshot that are not what was recorded of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_tasks.errors import ControlError, Retry
from workers.spool.damage import damaged, forget_damage, is_damaged
from workers.spool.tables import read_tables, write_tables


def test_a_mark_is_left_and_forgotten(tmp_path: Path) -> None:
    assert not is_damaged(tmp_path)
    error = damaged(tmp_path / "000001.chunk", "is missing")
    assert error.retry is Retry.OTHER, "another snapshot heals it"
    assert "000001.chunk is missing" in error.message
    assert is_damaged(tmp_path)
    forget_damage(tmp_path)
    assert not is_damaged(tmp_path)


def test_a_snapshot_that_is_gone_is_not_marked(tmp_path: Path) -> None:
    damaged(tmp_path / "gone" / "000001.chunk", "is missing")
    assert not (tmp_path / "gone").exists()


def test_tables_come_back(tmp_path: Path) -> None:
    write_tables(tmp_path, 11, [b"\x00f"], [b"s"])
    assert read_tables(tmp_path) == (11, [b"\x00f"], [b"s"])
    assert [p.name for p in tmp_path.iterdir()] == ["tables.json"]


@pytest.mark.parametrize("text", [None, "", "null", '{"version": 11, "func'])
def test_tables_that_a_power_cut_has_taken_away_are_damage(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "tables.json").write_text(text)
    with pytest.raises(ControlError, match=r"tables\.json"):
        read_tables(tmp_path)
    assert is_damaged(tmp_path)
