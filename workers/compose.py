"""Putting commands of our own making into a window."""

from __future__ import annotations

from workers.codec.resp_cy import encode
from workers.target.windows import Run, Window


def emit(window: Window, argv: list[bytes], offset: int) -> None:
    """One command, behind those in the window.

    Args:
        offset: of the stream byte before what it comes from; shown when the target refuses it.
    """
    window.runs.append(Run(window.commands, len(window.body), offset, False, db=window.selected))
    window.body += encode(argv)
    window.commands += 1


def select(window: Window, db: int, offset: int) -> None:
    """What follows goes to target database `db`."""
    if window.selected is None:
        window.first = db
    elif window.selected != db:
        emit(window, [b"SELECT", b"%d" % db], offset)
    window.selected = db
    window.databases.add(db)
