"""Keyferry as the benchmarks use it."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil

from tests.benchmarks.usage import Usage
from tests.run_keyferry import Keyferry
from tests.servers import Server


class Ours:
    """One run of the command between two servers, its use of the machine watched."""

    def __init__(
        self, source: Server, target: Server, state: Path, load_workers: int | None, config: str | None = None
    ) -> None:
        self.source, self.target, self._state = source, target, state
        self.ferry = Keyferry(source.url(), target.url(), state, load_workers=load_workers, config=config)
        self.usage = Usage(self.ferry.processes)
        self._checkpoint: tuple[int, bytes] | None = None

    def follow(self) -> None:
        """Start, and return when the snapshot is loaded."""
        self.ferry.start()
        self.usage.start()
        self.ferry.wait_phase("synchronizing", timeout=3600)

    def in_sync(self) -> None:
        """Return when it only follows: the load's files have been taken in, too, and are gone."""
        self.ferry.wait_in_sync(timeout=3600)
        while any(self._state.glob("**/gen-*")):
            time.sleep(0.05)

    def applied(self) -> int:
        """The offset of the target's checkpoint: finer in time than the lines are."""
        if self._checkpoint is None:
            for db in range(16):
                found = list(self.target.client(db=db).scan_iter(match="keyferry:*:ck", count=100_000))
                if found:
                    self._checkpoint = (db, found[0])
                    self.client = self.target.client(db=db)
        assert self._checkpoint, "no checkpoint on the target"
        return int(self.client.hget(self._checkpoint[1], "offset") or 0)

    def suspend(self) -> None:
        for process in self.ferry.processes():
            process.suspend()

    def resume(self) -> None:
        for process in reversed(self.ferry.processes()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def leave(self) -> None:
        """Stop it, and empty the target."""
        self.usage.end()
        assert self.ferry.stop(timeout=120) == 130
        self.target.client(socket_timeout=600).flushall()
        time.sleep(0.5)
