"""What a tree of processes uses: CPU seconds, of the dead too, and memory at its peak."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psutil

EVERY_S = 1.0
"""A look takes some 30 ms of a processor, which is not to count much against us."""
MB = 1e6


class Usage(threading.Thread):
    """Watches the processes that `tree` returns until `end`.

    CPU of a process that ends between two looks is lost for that time; of the others nothing is.
    """

    def __init__(self, tree: Callable[[], list[psutil.Process]]) -> None:
        super().__init__(daemon=True)
        self._tree = tree
        self._cpu: dict[tuple[int, float], float] = {}
        self._ended = threading.Event()
        self.rss_mb: dict[str, float] = {}  # peak by title
        self.pss_mb = 0.0  # peak of the sum
        self.base = 0.0  # CPU seconds at `mark`

    def run(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._look()

    def _look(self) -> None:
        total = 0.0
        for process in self._tree():
            try:
                times = process.cpu_times()
                memory = process.memory_full_info()
                title = " ".join(process.cmdline()).strip()[:40] or process.name()
                key = (process.pid, process.create_time())
            except psutil.Error:
                continue
            self._cpu[key] = times.user + times.system
            total += memory.pss / MB
            self.rss_mb[title] = max(self.rss_mb.get(title, 0.0), memory.rss / MB)
        self.pss_mb = max(self.pss_mb, total)

    def mark(self) -> None:
        """CPU seconds count from here."""
        self._look()
        self.base = sum(self._cpu.values())

    @property
    def cpu_s(self) -> float:
        return sum(self._cpu.values()) - self.base

    def end(self) -> Usage:
        self._look()
        self._ended.set()
        self.join(5)
        return self
