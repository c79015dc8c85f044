"""The stream job: one source node, followed from its snapshot on for as long as it is wanted."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError
from sync_tasks.names import tmp_key
from workers.apply import Applier
from workers.moment import now_ms
from workers.ports import StreamPort
from workers.receive import Receiver
from workers.source.ask import Source
from workers.spool.log import Log
from workers.target.link import TargetLink
from workers.translate import Scope

RENEW_S = 1.0
TICK_S = 0.1
REPORT_S = 0.4
ASK_S = 0.4


class StreamJob:
    """Runs the receiver and the applier, renews the lease, and reports.

    Args:
        port: the claimed job.
        source, target: both ends.
        spool: the spool's directory.
        home: the checkpoint's database on the target.
    """

    def __init__(self, port: StreamPort, source: Endpoint, target: Endpoint, spool: Path, home: int) -> None:
        self.port, self.target, self.home = port, target, home
        self.node = port.node()
        self.directory = spool / port.task.uid / str(self.node.number)
        self.log = Log(self.directory / "log", port.epoch)
        self.source = Source(source)
        scope = Scope(port.task.databases)
        self.applier = Applier(target, port, self.log, Source(source), self.directory, scope, home)
        self.receiver = Receiver(
            source, port, self.log, self.directory, Source(source),
            committed=lambda: self.applier.progress.committed, begin=self.applier.close_earlier,
            checkpoint=self.applier.checkpoint, border=self.applier.border,
        )  # fmt: skip
        self._sample: int | None = None  # the source's offset when last asked
        self._in_sync = False
        self._renewed = self._reported = self._asked = 0.0
        self._tidied = False

    def run(self) -> None:
        """Until it is no longer wanted. Raises what ended it: Fenced, CannotContinue, a fatal error."""
        self.receiver.start()
        self.applier.start()
        try:
            while self._tick():
                time.sleep(TICK_S)
        finally:
            self._end()
        for thread in (self.receiver, self.applier):
            if thread.error is not None:
                raise thread.error

    def _tick(self) -> bool:
        if self.receiver.error is not None or self.applier.error is not None:
            return False
        now = time.monotonic()
        if now - self._renewed >= RENEW_S:
            self._renewed = now
            if not self.port.renew():
                return False
        if not self.applier.progress.streaming:
            self._load()
        elif not self._tidied and self.applier.progress.settled_at is not None:
            self._tidied = True
            self._tidy()
        if now - self._asked >= ASK_S:
            self._asked = now
            self._ask()
        if now - self._reported >= REPORT_S:
            self._reported = now
            self._report()
        return True

    def _load(self) -> None:
        """Tell the applier once every chunk of the snapshot is in."""
        node = self.port.node()
        if node.snapshot_done:
            state = self.port.load_state(node.gen)
            if state.done == state.chunks:
                self.applier.loaded.set()
            else:
                self.applier.loaded.clear()

    def _tidy(self) -> None:
        """The load is closed and its expiries are settled: its files and temporary keys are of no more use."""
        for old in self.directory.glob("gen-*"):
            shutil.rmtree(old, ignore_errors=True)
        gen = self.port.node().gen
        chunks = [c for g in range(1, gen + 1) for c in self.port.chunks(g) if c.huge]
        if not chunks:
            return
        link = TargetLink(self.target, "keyferry-tidy", self.home)
        try:
            for chunk in chunks:
                db = self.applier.scope.target(chunk.db)
                names = [tmp_key(self.port.task.uid, chunk.id, epoch) for epoch in range(1, chunk.epoch + 1)]
                if db is not None and names:
                    link.ask_all([[b"SELECT", db], [b"UNLINK", *names]])
        except KeyferryError:
            self._tidied = False  # next tick tries again
        finally:
            link.close()

    def _ask(self) -> None:
        """In sync: the target has all that the source had written when asked, and nothing of that is held."""
        progress = self.applier.progress
        if not progress.streaming or not self.receiver.connected:
            self._in_sync = False
        try:
            offset = self.source.offset()
        except KeyferryError:
            self._sample, self._in_sync = None, False
            return
        self._sample = offset
        deadline = time.monotonic() + ASK_S
        while progress.streaming and time.monotonic() < deadline:
            committed, settled = progress.committed, progress.settled_at
            if committed is not None and committed >= offset and settled is not None and settled >= offset:
                self._in_sync = True
                return
            time.sleep(0.01)
        # Bytes that change nothing (PING) are committed a little later: one miss says nothing by itself.
        if progress.committed is None or offset - progress.committed > 1024 or progress.settled_at is None:
            self._in_sync = False

    def _report(self) -> None:
        progress = self.applier.progress
        values: dict[str, Any] = {
            "received_offset": self.log.end,
            "applied_offset": progress.committed,
            "source_offset": self._sample,
            "in_sync": self._in_sync,
            "held": progress.held,
            "settled": progress.streaming and progress.settled_at is not None,
            "delay_ms": self._delay(),
        }
        self.port.progress(values)

    def _delay(self) -> float | None:
        progress = self.applier.progress
        if not progress.streaming:
            return None
        if progress.oldest_ms:
            return max(progress.latency_ms or 0.0, float(now_ms() - progress.oldest_ms))
        return progress.latency_ms

    def _end(self) -> None:
        """Stop at a checkpoint: the receiver first, then what is in flight."""
        self.receiver.stop_event.set()
        self.applier.stop_event.set()
        self.applier.loaded.set()
        for thread in (self.applier, self.receiver):
            thread.join(8.0)
        with contextlib.suppress(KeyferryError):
            # Offsets alone: whether it was in sync and settled is what was last seen while it ran.
            offsets = {"received_offset": self.log.end, "applied_offset": self.applier.progress.committed}
            self.port.progress(offsets)
        for source in (self.source, self.applier.source, self.receiver.source):
            if isinstance(source, Source):
                source.close()
