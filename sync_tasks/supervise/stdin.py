"""An RDB that comes by standard input: put into the state directory first, so that a later start can go on with it."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

from sync_tasks.dumps import FILE
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, Side, SpoolFull, UsageError

NAME = "stdin.rdb"
BLOCK = 1 << 20
LOOK_S = 0.2
"""So often it is asked whether to stop, while nothing comes."""


def endpoint(state: Path) -> Endpoint:
    """Where what comes will lie, in a state directory."""
    return Endpoint(Side.SOURCE, FILE, path=str(state.absolute() / NAME))


def spool(source: Endpoint, pause: Callable[[float], None]) -> None:
    """Read all of it, unless an earlier start has done so. Whoever calls has the directory to himself.

    Args:
        source: as `endpoint` gave it.
        pause: called between blocks; may raise to give up.

    Raises UsageError: nothing comes; SpoolFull, ControlError.
    """
    whole = Path(source.path)
    if whole.exists():
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("the source is -, and nothing is piped in", hint="keyferry sync - TARGET < dump.rdb")
    part = whole.with_suffix(".part")
    try:
        with part.open("wb") as file:
            _copy(sys.stdin.fileno(), file.fileno(), pause)
            os.fsync(file.fileno())
        if not part.stat().st_size:
            raise UsageError("the source is -, and standard input is empty", hint="keyferry sync - TARGET < dump.rdb")
        part.replace(whole)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno in (28, 122):  # ENOSPC, EDQUOT
            raise SpoolFull(
                "the disk is full while standard input is kept", hint="make room, or give --state on a larger disk"
            ) from error
        raise ControlError(f"cannot keep standard input in {part}: {error.strerror}", code="state-dir") from error


def _copy(source: int, target: int, pause: Callable[[float], None]) -> None:
    while True:
        pause(0.0)
        if not select.select([source], [], [], LOOK_S)[0]:
            continue
        data = os.read(source, BLOCK)
        if not data:
            return
        while data:
            data = data[os.write(target, data) :]
