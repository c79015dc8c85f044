"""Chunk files on their way into an object store: a few at a time, while the next ones are written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from sync_tasks.errors import ControlError, Retry
from workers.spool.chunks import Closed
from workers.spool.files import disk_error
from workers.spool.stored import Stored

AT_ONCE = 4
HELD_BYTES = 1 << 30
"""With so much waiting on this host's disk nothing more is taken from the source; one value may be larger still."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
LOOK_S = 0.5


class Uploads:
    """Of one snapshot. A store that is away is waited for: whoever waits for an upload says so (`trouble`).

    Args:
        stored: where to.
        stopping: whether the job ends.
    """

    def __init__(self, stored: Stored, stopping: Callable[[], bool]) -> None:
        self._stored, self._stopping = stored, stopping
        self._pool = ThreadPoolExecutor(AT_ONCE, "upload")
        self._over = threading.Event()
        self._changed = threading.Condition()
        self._bytes = 0  # on this host's disk
        self._troubled: dict[int, ControlError] = {}
        self._tables = False

    @property
    def trouble(self) -> ControlError | None:
        """What keeps an upload from ending, at the moment."""
        with self._changed:
            return None if self._over.is_set() else next(iter(self._troubled.values()), None)

    def begin(self, chunk: Closed, enough: Callable[[], bool]) -> Future[Closed]:
        """Take a chunk file, once there is room for it; the future is of the chunk as it is to be recorded.

        Args:
            enough: whether there is nothing to wait for any more.
        """
        with self._changed:
            while self._bytes >= HELD_BYTES and not enough():
                self._changed.wait(LOOK_S)
            self._bytes += chunk.size
        return self._pool.submit(self._upload, chunk)

    def end(self) -> None:
        """Nothing more is uploaded; what is not up yet never will be."""
        self._over.set()
        self._pool.shutdown(cancel_futures=True)

    def _upload(self, chunk: Closed) -> Closed:
        path, pause = Path(chunk.path), FIRST_PAUSE_S
        while True:
            try:
                recorded = self._take(path)
                break
            except ControlError as error:
                if error.retry is not Retry.OTHER or self._stopping() or self._over.is_set():
                    raise
                with self._changed:
                    self._troubled[chunk.seq] = error
            self._over.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        with self._changed:
            self._troubled.pop(chunk.seq, None)
            self._bytes -= chunk.size
            self._changed.notify_all()
        return replace(chunk, path=recorded)

    def _take(self, path: Path) -> str:
        if not self._tables:  # perhaps twice: it does no harm
            self._stored.put_tables(path.parent)
            self._tables = True
        recorded = self._stored.take(path)
        try:
            path.unlink()
        except OSError as e:
            raise disk_error(e) from e
        return recorded
