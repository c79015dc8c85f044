"""Putting a command into a window whose bytes, or some of them, stay in the log until they are sent."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from functools import partial

from workers.codec.resp_cy import encode
from workers.spool.long import Long
from workers.target.windows import Elsewhere, Run, Window

Read = Callable[[int, int], Iterator[bytes]]
"""So many bytes of the log behind an offset."""


def copy(window: Window, long: Long, read: Read) -> None:
    """As it is, behind what the window has."""
    window.runs.append(Run(window.commands, len(window.body), long.offset, False, long=long.argv, db=window.selected))
    window.elsewhere.append(Elsewhere(len(window.body), long.size, partial(read, long.offset, long.size)))
    window.commands += 1


def rewrite(window: Window, long: Long, read: Read, write: Callable[[list[bytes]], None]) -> None:
    """As `write`, called with its arguments, puts it into the window: a token stands for each long argument there."""
    tokens = {at: secrets.token_bytes(16) for at in long.long}
    write([tokens.get(at, arg) for at, arg in enumerate(long.argv)])
    window.runs[-1].long = long.argv
    for at, token in tokens.items():
        offset, size = long.long[at]
        bulk = encode([token])[len(b"*1\r\n") : -len(b"\r\n")]
        begins = window.body.rfind(bulk)
        if begins < 0:
            continue  # nothing of it travels
        head = b"$%d\r\n" % size
        window.body[begins : begins + len(bulk)] = head
        window.elsewhere.append(Elsewhere(begins + len(head), size, partial(read, offset, size)))
