"""A snapshot on disk that is not what was recorded of it: who finds that leaves a mark, and another one is taken."""

from __future__ import annotations

import contextlib
from pathlib import Path

from sync_tasks.errors import ControlError, Retry
from workers.spool.files import disk_error

_MARK = "damaged"
_OUTDATED = "outdated"
MOST_DAMAGED = 3
"""So many snapshots are spoiled by the disk before the task fails."""


def damaged(file: Path, what: str) -> ControlError:
    """The error of a file of a snapshot that cannot be used; its snapshot is marked.

    Args:
        file: in the snapshot's directory.
        what: is wrong with it.
    """
    with contextlib.suppress(OSError):  # the directory of a snapshot that is over may be gone with its files
        (file.parent / _MARK).touch()
    return ControlError(
        f"the snapshot on disk is damaged: {file.name} {what}",
        code="snapshot-damaged",
        hint="another snapshot is taken by itself; the disk of the state directory may be failing",
        retry=Retry.OTHER,
    )


def outdated(directory: Path) -> None:
    """What was read of the source does not go together with what is still to be read: another snapshot is taken.
    Raises ControlError."""
    try:
        (directory / _OUTDATED).touch()
    except OSError as e:
        raise disk_error(e) from e


def is_outdated(directory: Path) -> bool:
    """Whether that was said of a snapshot."""
    return (directory / _OUTDATED).exists()


def heed(snapshots: Path, gen: int, spoiled: str | None) -> None:
    """Mark snapshot `gen` if a loader elsewhere has found it so; as of `NodeView.spoiled`. Raises ControlError."""
    number, _, what = (spoiled or "").partition(" ")
    if number == str(gen) and what in (_MARK, _OUTDATED):
        directory = snapshots / f"gen-{gen}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / what).touch()
        except OSError as e:
            raise disk_error(e) from e


def is_damaged(directory: Path) -> bool:
    """Whether a snapshot was marked."""
    return (directory / _MARK).exists()


def forget_damage(directory: Path) -> None:
    """The snapshot is loaded: its files are of no more use."""
    (directory / _MARK).unlink(missing_ok=True)


def check_worth(snapshots: Path, gen: int) -> None:
    """Raise ControlError when the disk has spoiled so many snapshots, up to number `gen`, that another is no use."""
    spoiled = sum(is_damaged(snapshots / f"gen-{number}") for number in range(1, gen + 1))
    if spoiled >= MOST_DAMAGED:
        raise ControlError(
            f"{spoiled} snapshots did not come back from the disk as they were written",
            code="snapshot-damaged",
            hint="see the system's log for errors of the disk; start over with a --state directory on another one",
        )
