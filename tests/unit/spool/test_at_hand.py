"""A chunk of the object store is on a loader's own disk for as long as it is loaded."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.errors import ControlError, StoreAway
from sync_tasks.objects import ObjectStore
from sync_tasks.states import ChunkState
from sync_tasks.views import ChunkView
from tests.unit.codec.rdb import record
from workers.spool.at_hand import LATE_ATTEMPTS, at_hand, to_be_read
from workers.spool.chunks import ChunkWriter, Closed
from workers.spool.stored import Stored
from workers.spool.tables import read_tables, write_tables

RUN = "0123456789abcdef"


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(ObjectStore(f"file://{tmp_path}/store"), tmp_path / "spool")


@pytest.fixture
def view(stored: Stored) -> ChunkView:
    """A chunk that lies in the store, as its row names it."""
    found: list[Closed] = []
    writer = ChunkWriter(stored.spool / RUN / "0" / "gen-1", found.append)
    write_tables(writer.directory, 11, [], [])
    writer.add(0, 0, record(b"a", 0, b"x"), 1)
    writer.close_all(0)
    (one,) = found
    stored.put_tables(writer.directory)
    recorded = stored.take(Path(one.path))
    return ChunkView(7, 1, 1, 1, 0, 0, 0, False, recorded, 1, one.size, ChunkState.RUNNING, 0, 1)  # fmt: skip


def port(view: ChunkView, epoch: int = 1) -> Any:
    return SimpleNamespace(
        task=SimpleNamespace(uid=RUN), chunk=replace(view, epoch=epoch), renew=lambda _: None
    )  # fmt: skip


def test_it_is_there_with_its_tables_and_goes_again(stored: Stored, view: ChunkView) -> None:
    one = port(view)
    with at_hand(stored, one):
        path = Path(one.chunk.path)
        assert path.stat().st_size == view.bytes
        assert read_tables(path.parent)[0] == 11
    assert not path.exists()
    assert not list((stored.spool / RUN / "fetched").iterdir())


def test_an_attempt_that_wakes_up_late_leaves_the_next_one_what_it_reads(stored: Stored, view: ChunkView) -> None:
    dead, late, next_one = port(view, 1), port(view, 2), port(view, 3)
    left = stored.spool / RUN / "fetched" / f"{dead.chunk.id}-{dead.chunk.epoch}"
    left.mkdir(parents=True)
    with at_hand(stored, next_one):
        assert not left.exists()
        with at_hand(stored, late):
            assert Path(late.chunk.path).exists()
        assert Path(next_one.chunk.path).exists()
        assert read_tables(Path(next_one.chunk.path).parent)[0] == 11


def test_only_the_worker_may_read_what_it_has_here(stored: Stored, view: ChunkView) -> None:
    before = os.umask(0o022)
    try:
        one = port(view)
        other = Stored(stored.store, stored.spool.parent / "other")
        kept = other.keys(view.path)
        with at_hand(stored, one):
            path = Path(one.chunk.path)
            modes = {file.name: file.stat().st_mode & 0o777 for file in (kept, path, *path.parent.iterdir())}
            assert len(modes) == 3
            assert set(modes.values()) == {0o600}, modes
    finally:
        os.umask(before)


@pytest.mark.parametrize("what", ["chunk", "tables"])
def test_what_a_store_does_not_show_yet_is_asked_for_again_before_it_is_taken_for_lost(
    stored: Stored, view: ChunkView, tmp_path: Path, what: str
) -> None:
    (place,) = {path.parent for path in (tmp_path / "store").rglob("*.json")}
    (hidden,) = place.glob("*.chunk") if what == "chunk" else place.glob("*.json")
    later = hidden.rename(tmp_path / "later")
    early, last = port(view), port(replace(view, attempts=LATE_ATTEMPTS))
    with pytest.raises(StoreAway, match="yet"), at_hand(stored, early):
        pass
    with pytest.raises(ControlError) as caught, at_hand(stored, last):
        read_tables(Path(last.chunk.path).parent)
    assert caught.value.code == "snapshot-damaged"
    later.rename(hidden)
    with at_hand(stored, early):
        assert Path(early.chunk.path).exists()


def test_so_does_one_who_reads_a_range(stored: Stored, view: ChunkView, tmp_path: Path) -> None:
    (tables,) = (tmp_path / "store").rglob("*.json")
    tables.unlink()
    with pytest.raises(StoreAway, match="yet"), to_be_read(stored, port(view)):
        pass
