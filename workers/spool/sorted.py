"""By which parts of the target a snapshot on disk is sorted: loaders know them by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sync_tasks.lanes import Lane
from workers.spool.files import disk_error

NAME = "lanes"


def keep(directory: Path, lanes: Sequence[Lane]) -> None:
    """Write it down. Raises SpoolFull, ControlError."""
    try:
        if lanes:
            (directory / NAME).write_text(_text(lanes))
    except OSError as error:
        raise disk_error(error) from error


def is_sorted(directory: Path, lanes: Sequence[Lane]) -> bool:
    """Whether it is by these, as far as the snapshot is here."""
    path = directory / NAME
    return not path.exists() or path.read_text() == _text(lanes)


def _text(lanes: Sequence[Lane]) -> str:
    return "\n".join(f"{lane.number} {lane.slots}" for lane in lanes)
