"""An RDB file in the place of a source: it is framed as a snapshot is, and nothing follows it.

Its chunks are handed to load workers once all of it was read and its checksum is right: of a damaged file nothing is
written.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sync_tasks import dumps
from sync_tasks.errors import Malformed
from workers.moment import now_ms
from workers.receive import STEP_S
from workers.scope import Scope
from workers.snapshot import SnapshotReader
from workers.source.psync import Full
from workers.spool.damage import is_damaged
from workers.unstreamed import OFFSET, Unstreamed


class DumpReceiver(Unstreamed):
    """Reads one. Arguments as of `Receiver`; the endpoint is of a file."""

    def _bring(self) -> None:
        with dumps.opened(self.endpoint) as dump:
            self._read(dump)

    def _rest(self) -> None:
        """Until there is something to do: the target has lost what it had, or the disk has."""
        snapshot = self.snapshots / f"gen-{self.port.node().gen}"
        while not self.stop_event.wait(STEP_S):
            if self.log.wanted is not None or self._is_anew() or is_damaged(snapshot):
                return
            if self._publisher and self._publisher.error:
                return

    def _read(self, dump: dumps.Dump) -> None:
        gen = self._new_generation(Full(dump.id, OFFSET), dump.size)
        publisher = self._publisher_of(gen, held=True)
        reader = SnapshotReader(
            self.snapshots / f"gen-{gen}", closed=publisher.put, progress=self._progress,
            stopping=self.stop_event.is_set, waiting=self._waiting, lanes=self.port.task.lanes,
            sorts=not self.port.task.spec.transform.active,
            scope=Scope(self.port.task.databases, self.port.task.spec.filter, self._slots), past=now_ms(),
        )  # fmt: skip
        end = _End()
        try:
            reader.read(end, end.passed(dump))
        except BaseException:
            publisher.abandon()
            raise
        if reader.framer.over:
            self.port.event("expired", f"{reader.framer.over} keys whose time was over were left out")
        self._known.begin(OFFSET, 0)
        self.log.reset(dump.id, OFFSET)
        publisher.end(partial(self._end, gen, reader))
        self._publisher = publisher


class _End:
    """Sees that nothing lies behind the RDB."""

    def __init__(self) -> None:
        self._read = 0
        self._left: Iterator[bytes] = iter(())

    def passed(self, dump: dumps.Dump) -> Iterator[bytes]:
        """The file's bytes."""
        self._left = dump.blocks()
        for data in self._left:
            self._read += len(data)
            yield data

    def end_mark(self, rest: bytes) -> None:
        """As of a link. Raises Malformed."""
        if rest or next(self._left, b""):
            raise Malformed(
                "something follows the RDB", self._read - len(rest),
                hint="nothing of it was written; is it an append-only file that begins with an RDB?",
            )  # fmt: skip
