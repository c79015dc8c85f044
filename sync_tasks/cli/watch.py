"""Looking at a run again and again: what the store says of it, and whether the disk leaves it room."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Hashable
from typing import TYPE_CHECKING

from sync_tasks.cli import failures
from sync_tasks.errors import ControlError, Retry
from sync_tasks.supervise.directory import Directory
from sync_tasks.supervise.outcome import Outcome, Reading

if TYPE_CHECKING:
    from sync_tasks.store import Store


class Watch:
    """Keeps the last reading.

    Args:
        store, task_id: what is read.
        directory: whose disk is watched.
    """

    def __init__(self, store: Store, task_id: int, directory: Directory) -> None:
        self._store, self.task_id, self._directory = store, task_id, directory
        self.last: Reading | None = None
        self._seen: Hashable | None = None  # what `last` was made of; None: it has to be made anew
        self._full_since: float | None = None

    def look(self) -> Reading:
        """Read the store; the very same reading if nothing has changed, and while the store cannot be read for a reason
        that heals."""
        try:
            reading = self._read()
        except ControlError as error:
            if error.retry is Retry.FATAL or self.last is None:
                raise
            reading = self.last
        full = self._directory.is_full()
        self.last = reading if full == reading.disk_full else dataclasses.replace(reading, disk_full=full)
        return self.last

    def _read(self) -> Reading:
        from sync_tasks.supervise.reading import read

        seen = self._store.seen()  # first: what changes while we read is read again
        if seen is None or seen != self._seen or self.last is None:
            self._seen = None
            self.last = read(self._store, self.task_id)
            self._seen = seen
        return self.last

    def out_of_room(self, reading: Reading) -> Outcome | None:
        """A disk so full that not even the retry window could be recorded: its time is kept here."""
        if not reading.disk_full or reading.retries:
            self._full_since = None
            return None
        now = time.monotonic()
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since < reading.task.spec.retry.other_min * 60:
            return None
        error = failures.disk_full(f" at {self._directory.path}")
        return Outcome(error.exit_code, error)
