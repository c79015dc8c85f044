"""Checksums of chunk files, in their names: `<stem>.<CRC-32 of all bytes, 8 hex digits>.chunk`.

The record of a chunk holds its path, so what a file was when it was written is known to whoever reads it, and a byte
that a disk has changed since is found before anything of the file is on the target.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from zlib_ng.zlib_ng import crc32

from workers.spool.damage import damaged
from workers.spool.files import disk_error

BLOCK = 1 << 20
IN_PASSING = 64 << 20
"""Bytes that are read within some 50 ms: chunks of small values are smaller."""
_SUM = re.compile(r"\.([0-9a-f]{8})\.chunk$")


def sealed(path: str, crc: int) -> str:
    """Give a file that is complete the name that tells its checksum; that name. Raises SpoolFull, ControlError."""
    named = f"{path.removesuffix('.chunk')}.{crc:08x}.chunk"
    try:
        os.rename(path, named)
    except OSError as e:
        raise disk_error(e) from e
    return named


def is_intact(path: Path, check: Callable[[], None] = lambda: None, most: int | None = None) -> bool:
    """Whether a file has the checksum of its name; of one that tells none (of an older version) nobody knows: yes.

    Args:
        check: called now and then; what it raises ends the reading.
        most: a file of more bytes is taken for intact, since whoever asks has no time to read it.

    Raises FileNotFoundError.
    """
    told = _SUM.search(path.name)
    if told is None or (most is not None and path.stat().st_size > most):
        return True
    crc = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            check()
            crc = crc32(block, crc)
    return crc == int(told[1], 16)


def still_intact(path: Path) -> bool:
    """Whether a file that was loaded is what it was then; one too large to be read in passing counts as such."""
    try:
        return is_intact(path, most=IN_PASSING)
    except OSError:
        return False


def verify(path: Path, check: Callable[[], None] = lambda: None) -> None:
    """Raise ControlError, the snapshot marked, unless `is_intact`."""
    try:
        intact = is_intact(path, check)
    except OSError as e:  # it was there a moment ago, or the disk cannot read it
        raise damaged(path, f"cannot be read: {e.strerror}") from e
    if not intact:
        raise damaged(path, "has another checksum than when it was written")
