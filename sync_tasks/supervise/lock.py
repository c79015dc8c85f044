"""One command at a time on a state directory."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from sync_tasks.errors import ControlError

PATIENCE_S = 3.0  # a predecessor that was just killed or told to stop may still be ending
PAUSE_S = 0.05


def take(path: Path, pause: Callable[[float], None] = time.sleep, patience_s: float = PATIENCE_S) -> int:
    """Lock `path` for this process; the descriptor, to be kept open and never opened a second time.

    POSIX record locks belong to one process: no fork inherits them, and the kernel drops them at death.
    Closing any descriptor of the file would drop them too, hence one descriptor.

    Raises:
        ControlError: another process holds it, still after `patience_s`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_s
    while not _locked(descriptor):
        if time.monotonic() >= deadline:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise _in_use(path, holder)
        pause(PAUSE_S)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return descriptor


def _locked(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _in_use(path: Path, holder: str) -> ControlError:
    who = f"process {holder}" if holder.isdigit() else "another process"
    return ControlError(
        f"the state directory {path.parent} is in use by {who}",
        code="state-in-use",
        hint="wait for it or stop it, or give another directory with --state",
    )
