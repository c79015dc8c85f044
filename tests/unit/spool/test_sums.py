"""Checksums of chunk files: one byte that a disk has changed is found, whatever it belongs to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from sync_tasks.errors import ControlError, Retry
from tests.unit.protocol.faulty import record
from workers.scope import Scope
from workers.search import Search
from workers.spool.chunks import ChunkWriter, Closed
from workers.spool.damage import is_damaged
from workers.spool.sums import is_intact, verify
from workers.spool.tables import read_tables, write_tables


def written(directory: Path) -> dict[str, Closed]:
    """A chunk of small values in two goes, one of a huge value in three, and one that has nothing of its own."""
    found: list[Closed] = []
    writer = ChunkWriter(directory, found.append)
    writer.add(0, 1, record(b"a") + record(b"b"), 2)
    writer.begin_huge(b"huge", -1, 0)
    writer.part(b"x" * 1000)
    writer.part(b"y" * 1000)
    writer.end_huge(0, 1)
    writer.add(0, 1, record(b"c"), 1)
    writer.close_all(0)
    return {"huge" if chunk.huge else "small": chunk for chunk in found}


def test_files_are_named_for_what_they_hold(tmp_path: Path) -> None:
    first, again = written(tmp_path / "a"), written(tmp_path / "b")
    assert {Path(chunk.path).name for chunk in first.values()} == {path.name for path in (tmp_path / "a").iterdir()}
    assert [Path(first[kind].path).name for kind in first] == [Path(again[kind].path).name for kind in again]
    for chunk in first.values():
        assert Path(chunk.path).stat().st_size == chunk.size
        assert is_intact(Path(chunk.path))


@pytest.mark.parametrize("kind", ["small", "huge"])
def test_any_byte_that_is_another_one_is_found(tmp_path: Path, kind: str) -> None:
    path = Path(written(tmp_path)[kind].path)
    data = path.read_bytes()
    for at in range(0, len(data), max(1, len(data) // 50)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        assert not is_intact(path), f"byte {at} of {len(data)}"
    path.write_bytes(data)
    assert is_intact(path)


def test_damage_is_named_and_marks_the_snapshot(tmp_path: Path) -> None:
    path = Path(written(tmp_path)["small"].path)
    verify(path)
    assert not is_damaged(tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ControlError, match=path.name) as caught:
        verify(path)
    assert (caught.value.code, caught.value.retry) == ("snapshot-damaged", Retry.OTHER)
    assert is_damaged(tmp_path)


def test_a_file_of_an_older_version_tells_no_checksum(tmp_path: Path) -> None:
    for name in ("000001.chunk", "000001.3.chunk", "000001.3-2.chunk"):
        path = tmp_path / name
        path.write_bytes(b"anything")
        assert is_intact(path)


def test_reading_it_can_be_ended(tmp_path: Path) -> None:
    path = Path(written(tmp_path)["small"].path)

    def enough() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        is_intact(path, enough)


def test_expiries_that_a_damaged_file_has_named_are_looked_for_on_the_target(tmp_path: Path) -> None:
    """Else they would be held for good."""
    path = Path(written(tmp_path)["small"].path)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    there = SimpleNamespace(
        databases=lambda _scope: [0],
        scan=lambda _db, _cursor, _most: (0, [b"k"]),
        read=lambda _db, keys: [SimpleNamespace(key=key, hashed=True, when=-1) for key in keys],
    )
    search = Search(there, Scope(None), True, [(0, path)])  # type: ignore[arg-type]
    found = []
    while search.wanted:
        found += search.step(0)
    assert found == [(0, b"k")]


def test_a_library_that_is_another_one_is_damage(tmp_path: Path) -> None:
    write_tables(tmp_path, 11, [b"#!lua name=ferry"], [b"return 1"])
    path = tmp_path / "tables.json"
    text = path.read_text()
    assert read_tables(tmp_path) == (11, [b"#!lua name=ferry"], [b"return 1"])
    at = text.index('"functions": ["') + 20
    path.write_text(text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :])
    with pytest.raises(ControlError, match=r"tables\.json"):
        read_tables(tmp_path)
    path.write_text('{"version": 11, "functions": [], "scripts": []}')
    assert read_tables(tmp_path) == (11, [], []), "of an older version"
