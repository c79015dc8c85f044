"""The intake of a suspended task: its stream goes to disk, up to a limit; the target is left alone.

A source forgets what its backlog no longer holds. So the link to it stays while the task rests, and a resumption goes
on from the log, however small the backlog is. Once there is enough on disk the link is closed, so that it costs the
source nothing more.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from typing import Any, Protocol

from sync_tasks.errors import KeyferryError
from sync_tasks.units import size
from workers.ports import StreamPort
from workers.receive import Receiver
from workers.source.view import SourceView

LEAST_FREE = 256 << 20
"""Bytes left on the disk of the spool; a task that rests takes none of them from those that run."""
REPORT_S = 0.4
REPORT_ALL_S = 5.0
"""What has not changed is reported this often."""
ASK_S = 2.0
END_S = 8.0


class Filling(Protocol):
    """The log, as far as it concerns us."""

    @property
    def directory(self) -> Any: ...

    @property
    def start(self) -> int | None: ...

    @property
    def end(self) -> int | None: ...


class Intake:
    """One owner's suspension.

    Args:
        port: the claimed job.
        log: that is filled.
        receiver: who fills it; ended when there is enough.
        source: asked how far it is.
        committed: tells the offset of the target's checkpoint; None if it is not known: then all of the log counts.
        say: shows a line to people who watch the job.
    """

    def __init__(
        self,
        port: StreamPort,
        log: Filling,
        receiver: Receiver,
        source: SourceView,
        committed: Callable[[], int | None],
        say: Callable[[str], None],
    ) -> None:
        self.port, self.log, self.receiver, self.source = port, log, receiver, source
        self.committed, self._say = committed, say
        self._values: dict[str, Any] = {}  # last reported
        self._sample: int | None = None  # the source's offset when last asked
        self._asked = self._reported = self._reported_all = float("-inf")

    @property
    def waiting(self) -> int:
        """Bytes of the stream that wait on disk."""
        committed = self.committed()
        behind = self.log.start if committed is None else committed
        return max(0, (self.log.end or 0) - (behind or 0))

    def begin(self) -> None:
        """The applier has ended: say where, before anybody counts on it."""
        self.port.progress(self._offsets())
        self.port.rests()

    def goes_on(self, limit: int) -> bool:
        """Whether there is room for more; if not, the link to the source is closed, and that is said.

        Args:
            limit: bytes that may wait on disk; what arrives within a moment may come on top.
        """
        now = time.monotonic()
        enough = self._enough(limit)
        if enough is not None:
            self._close(enough)
            return False
        if now - self._reported >= REPORT_S:
            self._reported = now
            self._report(now)
        return True

    def _enough(self, limit: int) -> str | None:
        if self.waiting >= limit:
            return f"of the stream {size(self.waiting)} wait on disk, the limit is {size(limit)}"
        free = shutil.disk_usage(self.log.directory).free
        if free < LEAST_FREE:
            return f"of the stream {size(self.waiting)} wait on disk, which has only {size(free)} left"
        return None

    def _close(self, enough: str) -> None:
        """The link first: what is said then stays true."""
        self.receiver.stop_event.set()
        self.receiver.join(END_S)
        self.port.progress(self._offsets())
        rest = "the link to the source is closed, and a resumption goes on from there, then from the source's backlog"
        self.port.receive_no_more(f"{enough}: {rest}")

    def _offsets(self) -> dict[str, int | None]:
        committed = self.committed()
        known = {} if committed is None else {"applied_offset": committed}
        return {"received_offset": self.log.end, **known}

    def _report(self, now: float) -> None:
        if now - self._asked >= ASK_S:
            self._asked, self._sample = now, None
            with contextlib.suppress(KeyferryError):
                self._sample = self.source.offset()
        values = {**self._offsets(), "source_offset": self._sample, "in_sync": False, "delay_ms": None}
        if values != self._values or now - self._reported_all >= REPORT_ALL_S:
            self._values, self._reported_all = values, now
            self.port.progress(values)
            self._say(f"suspended: {size(self.waiting)} of the stream wait on disk")
