"""Waiting for room on the spool's disk: a full disk pauses the reader, it loses nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

from sync_tasks.errors import SpoolFull


def when_there_is_room(
    write: Callable[[], None], waiting: Callable[[Exception], float], stopping: Callable[[], bool]
) -> None:
    """Call `write` until it does not raise SpoolFull; `waiting` says how many seconds to pause, or raises."""
    while True:
        try:
            write()
            return
        except SpoolFull as error:
            pause = min(1.0, waiting(error))
            if stopping():
                raise
            time.sleep(pause)
