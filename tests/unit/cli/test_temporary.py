"""Temporary files of children that are killed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from sync_tasks.supervise.temporary import Temporary


def in_a_child(run: object) -> None:
    """Run it in a fork that ends as a killed one does: nobody tidies up."""
    pid = os.fork()
    if pid == 0:
        try:
            run()  # type: ignore[operator]
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_parent_removes_what_children_left(place: Path) -> None:
    temporary = Temporary()
    for _ in range(2):
        in_a_child(temporary.within(lambda: tempfile.mkdtemp(prefix="pool-")))  # type: ignore[arg-type,return-value]
    (ours,) = place.iterdir()
    assert len(list(ours.glob("pool-*"))) == 2
    assert tempfile.gettempdir() == str(place), "the parent's own files stay where they were"
    temporary.remove()
    assert list(place.iterdir()) == []
    temporary.remove()


def test_a_system_without_room_for_it_is_no_reason_not_to_start(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place / "missing"))
    ran: list[bool] = []
    Temporary().within(lambda: ran.append(True))()
    assert ran == [True]
