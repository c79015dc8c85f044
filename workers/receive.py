"""The receiver: a thread that keeps the replication link and drains it to disk, whatever the target does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import CannotContinue, ConnectionLost, Fenced, KeyferryError, Side
from workers.moment import now_ms
from workers.ports import StreamPort
from workers.snapshot import SnapshotReader, Stopped
from workers.source.psync import RECV_BYTES, SILENCE_S, Continued, Full, ReplicaLink
from workers.spool.chunks import Closed
from workers.spool.log import BACKLOG, Log
from workers.spool.room import when_there_is_room
from workers.target.claim import Checkpoint

ACK_EVERY_S = 1.0
STEP_S = 0.2
GATHER_S = 0.001


class SourceView(Protocol):
    """What the receiver asks over an ordinary connection."""

    def offset(self) -> int: ...

    def keys(self) -> int | None: ...


class Receiver(threading.Thread):
    """Follows one source node.

    Args:
        endpoint: the source node.
        port: the claimed job.
        log: where the stream goes.
        snapshots: directory of the node; a snapshot gets `gen-<n>` in it.
        source: ordinary questions to the source.
        committed: the offset that the target has; acknowledged to the source.
        begin: called before a new snapshot is loaded, with its number: closes the load of earlier ones on the target.
        checkpoint: reads the target's checkpoint.
        border: held while a load is closed, or a new one begun: never both.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        port: StreamPort,
        log: Log,
        snapshots: Path,
        source: SourceView,
        committed: Callable[[], int | None],
        begin: Callable[[int], None],
        checkpoint: Callable[[], Checkpoint | None],
        border: threading.Lock,
    ) -> None:
        super().__init__(name="receiver", daemon=True)
        self.endpoint, self.port, self.log, self.snapshots = endpoint, port, log, snapshots
        self.source, self.committed, self._begin = source, committed, begin
        self._checkpoint, self._border = checkpoint, border
        self.stop_event = threading.Event()
        self.error: BaseException | None = None
        self.snapshot: SnapshotReader | None = None
        self.received_bytes = 0
        self.connected = False
        self._full = False
        self._fresh_until = 0
        self._acked_at = 0.0

    def run(self) -> None:
        try:
            while not self.stop_event.is_set():
                try:
                    self._follow()
                except Stopped:
                    return
                except (Fenced, CannotContinue):
                    raise
                except KeyferryError as error:
                    self.connected = False
                    self.stop_event.wait(self.port.failing(error))
        except BaseException as error:  # noqa: BLE001 - handed to the job, which ends with it
            self.error = error
        finally:
            self.log.close()

    def _follow(self) -> None:
        """One life of the link."""
        node = self.port.node()
        link = ReplicaLink(self.endpoint)
        try:
            if node.begun and self.log.replid is None:
                self._rejoin()
            if node.snapshot_done and self.log.replid is not None:
                self._resume(link)
            else:
                self._start(link)
            self.connected = True
            self._has_room()
            self.port.healed("source")
            self._stream(link)
        finally:
            link.close()

    def _rejoin(self) -> None:
        """The spool was lost, but the target knows where the stream stands."""
        found = self._checkpoint()
        if found is None:
            raise CannotContinue(
                "neither the log on disk nor the target's checkpoint is there any more",
                side=Side.TARGET,
                hint="start over with an empty target and a new --state directory",
            )
        self.log.reset(found.replid, found.offset)

    def _resume(self, link: ReplicaLink) -> None:
        assert self.log.replid is not None
        assert self.log.end is not None
        self._fresh_until = self.source.offset()
        answer = link.psync(self.log.replid, self.log.end)
        if isinstance(answer, Continued):
            if answer.replid is not None:
                self.log.rename(answer.replid)
            return
        self._take(link, answer)

    def _start(self, link: ReplicaLink) -> None:
        answer = link.psync(None, 0)
        if not isinstance(answer, Full):
            raise ConnectionLost("the source continued a stream that was not asked for", side=Side.SOURCE)
        self._take(link, answer)

    def _take(self, link: ReplicaLink, answer: Full) -> None:
        """Receive a whole snapshot as a new generation."""
        link.settimeout(SILENCE_S)
        parts = link.snapshot()
        size = next(parts)
        assert not isinstance(size, bytes)
        with self._border:
            if self.port.node().begun or self._checkpoint() is not None:
                raise CannotContinue(
                    f"the source no longer has the stream behind offset {self.log.end} of {self.log.replid}",
                    side=Side.SOURCE,
                    hint="raise repl-backlog-size on the source; start over with an empty target and another --state",
                )
            gen = self.port.begin_snapshot(answer.replid, answer.offset, 0, self.source.keys(), size)
            self._begin(gen)
        self.port.healed("target")
        self.port.event("snapshot", f"snapshot {gen} of {answer.replid[:8]} at offset {answer.offset}")
        reader = SnapshotReader(
            self.snapshots / f"gen-{gen}",
            closed=lambda chunk: self._record(gen, chunk),
            progress=self._progress,
            stopping=self.stop_event.is_set,
            waiting=self._waiting,
        )
        self.snapshot = reader
        try:
            reader.read(link, parts)
        except TimeoutError as e:
            raise classify(e, Side.SOURCE) from e
        self.log.reset(answer.replid, answer.offset)
        self.port.progress({"stream_db": reader.stream_db})
        self.port.end_snapshot(gen, reader.chunks.keys, reader.chunks.bytes)

    def _record(self, gen: int, c: Closed) -> None:
        self.port.add_chunk(
            gen=gen, seq=c.seq, db=c.db, shard=c.shard, huge=c.huge, path=c.path, keys=c.keys, size=c.size
        )

    def _progress(self, received: int) -> None:
        self.received_bytes = received
        self._has_room()

    def _waiting(self, error: Exception) -> float:
        assert isinstance(error, KeyferryError)
        self._full = True
        return self.port.failing(error)

    def _has_room(self) -> None:
        """A write went through: the window of a full disk, if one is open, closes."""
        if self._full:
            self._full = False
            self.port.healed("control")

    def _stream(self, link: ReplicaLink) -> None:
        """Write what arrives to the log, and acknowledge what the target has."""
        link.settimeout(STEP_S)
        heard = time.monotonic()
        while not self.stop_event.is_set():
            self._acknowledge(link)
            try:
                data = link.receive()
            except TimeoutError:
                if time.monotonic() - heard > SILENCE_S:
                    raise ConnectionLost(
                        f"the source has been silent for {SILENCE_S:.0f} s", side=Side.SOURCE
                    ) from None
                continue
            now = time.monotonic()
            if now - heard < GATHER_S and len(data) < RECV_BYTES:
                time.sleep(GATHER_S)  # a busy stream: fewer and larger blocks cost less than they delay
            heard = now
            end = self.log.end
            assert end is not None
            flags = BACKLOG if end < self._fresh_until else 0
            moment = now_ms()
            when_there_is_room(
                partial(self.log.append, data, moment, flags), self._waiting, self.stop_event.is_set
            )
            self._has_room()

    def _acknowledge(self, link: ReplicaLink) -> None:
        """Never the last byte received: a FAILOVER of the source would pick us as the new master."""
        now = time.monotonic()
        if now - self._acked_at >= ACK_EVERY_S:
            self._acked_at = now
            # Also 0, before there is a checkpoint: a source starts the stream behind a diskless snapshot at the first
            # ACK, and drops a replica that is silent for longer than repl-timeout.
            link.ack(min(self.committed() or 0, (self.log.end or 0) - 1))
