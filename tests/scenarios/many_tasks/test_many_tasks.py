"""Fifty tasks on one machine."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.service import many

MOST_MB = 1600


def test_their_memory_in_all(tmp_path: Path) -> None:
    found = many(tmp_path, 1.0)
    print(found)
    assert found.memory_mb < MOST_MB
