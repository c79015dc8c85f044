"""Putting commands of our own making into a window."""

from __future__ import annotations

from workers.codec.resp_cy import encode
from workers.target.scripted import ALONE
from workers.target.windows import Run, Window


def emit(window: Window, argv: list[bytes], offset: int) -> None:
    """One command, behind those in the window.

    Args:
        offset: of the stream byte before what it comes from; shown when the target refuses it.
    """
    window.runs.append(Run(window.commands, len(window.body), offset, False, db=window.selected))
    window.body += encode(argv)
    window.commands += 1


def alone(window: Window, argv: list[bytes], slots: str, offset: int) -> None:
    """One that acts on all that a node of a cluster has: only while that serves these slots, as written, and no others.

    Args:
        offset: as for `emit`.
    """
    window.runs.append(Run(window.commands, len(window.body), offset, False, instead=argv, db=window.selected))
    window.body += encode([ALONE, slots.encode(), *argv])
    window.commands += 1
    window.beside += sum(map(len, argv))
    window.serves = slots


def select(window: Window, db: int, offset: int) -> None:
    """What follows goes to target database `db`."""
    if window.selected is None:
        window.first = db
    elif window.selected != db:
        emit(window, [b"SELECT", b"%d" % db], offset)
    window.selected = db
    window.databases.add(db)
