"""Writing to the spool: all or nothing, and a full disk as a typed error."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from sync_tasks.errors import ControlError, SpoolFull


def write_all(fd: int, parts: Sequence[bytes | bytearray | memoryview], size: int) -> None:
    """Append all parts at the present position.

    Args:
        fd: the file.
        parts: buffers, in order.
        size: the file's length now, in bytes; a failed write cuts it back to this.
    Raises SpoolFull when the disk is full, ControlError for other failures; the file is then as before.
    """
    total = sum(len(p) for p in parts)
    try:
        done = os.writev(fd, parts)
        while done < total:
            rest = b"".join(parts)[done:]
            done += os.write(fd, rest)
    except OSError as e:
        os.ftruncate(fd, size)
        os.lseek(fd, size, os.SEEK_SET)
        raise disk_error(e) from e


def make_durable(path: Path) -> None:
    """Return once a file's bytes and its name are on the disk: a power cut takes neither away any more.

    Raises SpoolFull, ControlError: what was written may be gone, a second call would not tell.
    """
    try:
        for place in (path, path.parent):
            fd = os.open(place, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    except OSError as e:
        raise disk_error(e) from e


def disk_error(e: OSError) -> ControlError:
    """The typed error of a failed write to the spool."""
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpoolFull(
            "no room left on the disk of the spool",
            hint="make room on the disk of the state directory; the task goes on by itself",
        )
    return ControlError(f"writing to the spool failed: {e.strerror}", code="spool")
