"""Putting a command into a window whose bytes, or some of them, stay in the log until they are sent."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from workers.spool.long import Long
from workers.target.windows import Elsewhere, Run, Window

Read = Callable[[int, int], Iterator[bytes]]
"""So many bytes of the log behind an offset."""


@dataclass(frozen=True, slots=True)
class Stand:
    """What stands for a long argument while a command is rewritten, and what is sent instead."""

    token: bytes
    size: int  # bytes
    read: Callable[[], Iterator[bytes]]


def copy(window: Window, long: Long, read: Read) -> None:
    """As it is, behind what the window has."""
    window.runs.append(Run(window.commands, len(window.body), long.offset, False, long=long.argv, db=window.selected))
    window.elsewhere.append(Elsewhere(len(window.body), long.size, partial(read, long.offset, long.size)))
    window.commands += 1


def stands(long: Long, read: Read) -> dict[int, Stand]:
    """For each long argument, by its number."""
    return {
        at: Stand(secrets.token_bytes(16), size, partial(read, offset, size))
        for at, (offset, size) in long.long.items()
    }


def rewrite(
    window: Window, argv: list[bytes], instead: dict[int, Stand], write: Callable[[list[bytes]], None]
) -> None:
    """As `write`, called with its arguments, puts it into the window; SELECT is there already."""
    first, begins = len(window.runs), len(window.body)
    write([instead[at].token if at in instead else arg for at, arg in enumerate(argv)])
    for run in window.runs[first:]:
        run.long = argv
    for stand in instead.values():
        bulk, head = b"$%d\r\n%b" % (len(stand.token), stand.token), b"$%d\r\n" % stand.size
        while (at := window.body.find(bulk, begins)) >= 0:
            _put(window, at, len(bulk), head)
            window.elsewhere.append(Elsewhere(at + len(head), stand.size, stand.read))
    window.elsewhere.sort(key=lambda piece: piece.position)


def rewrite_head(window: Window, long: Long, kept: int, read: Read, write: Callable[[list[bytes]], None]) -> None:
    """As `write`, called with its first `kept` arguments and one that stands for all others, puts it into the window;
    SELECT is there already."""
    first, begins = len(window.runs), len(window.body)
    token = secrets.token_bytes(16)
    write([*long.argv[:kept], token])
    for run in window.runs[first:]:
        run.long = long.argv
    bulk = b"$%d\r\n%b\r\n" % (len(token), token)
    at = window.body.find(bulk, begins)
    if at < 0:
        return  # nothing of it travels
    _put(window, at, len(bulk), b"")
    offset, end = long.starts[kept], long.offset + long.size
    window.elsewhere.append(Elsewhere(at, end - offset, partial(read, offset, end - offset)))
    start = next(run.position for run in reversed(window.runs) if run.position < at)
    stated = b"*%d\r\n" % (kept + 1)
    assert window.body.startswith(stated, start)
    _put(window, start, len(stated), b"*%d\r\n" % long.count)


def _put(window: Window, at: int, size: int, data: bytes) -> None:
    """Put bytes in the place of others; what is behind them moves."""
    window.body[at : at + size] = data
    more = len(data) - size
    for run in window.runs:
        run.position += more if run.position > at else 0
    for piece in window.elsewhere:
        piece.position += more if piece.position > at else 0
