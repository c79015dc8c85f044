"""The receiver: a thread that keeps the replication link and drains it to disk, whatever the target does."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import CannotContinue, ConnectionLost, ControlError, Fenced, KeyferryError, Side, is_away
from sync_tasks.point import Point
from sync_tasks.views import NodeView
from workers import from_here
from workers.moment import now_ms
from workers.ports import StreamPort
from workers.scope import Scope
from workers.snapshot import SnapshotReader, Stopped
from workers.source.place import Place
from workers.source.psync import RECV_BYTES, SILENCE_S, Continued, Full, ReplicaLink
from workers.source.view import SourceView
from workers.spool.damage import check_worth, forget_damage, is_damaged
from workers.spool.known import Known
from workers.spool.log import BACKLOG, Log
from workers.spool.publish import Publisher, record
from workers.spool.room import when_there_is_room
from workers.spool.stored import Stored
from workers.spool.uploads import Uploads
from workers.target.claim import LOADING, STREAMING, Checkpoint, check_open

ACK_EVERY_S = 1.0
STEP_S = 0.5
GATHER_S = 0.001


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
        checkpoint: reads the target's checkpoint; of a cluster, that of the part which is behind, if all have one.
        furthest: the same, of the part that has come furthest; None: no part has one.
        border: held while a load is closed, or a new one begun: never both.
        reopen: begins a full sync in place over a target that was streaming: number of the snapshot, replication id of
            the stream so far, and of the snapshot, the source's number of keys.
        known: takes in what the log forgets.
        stored: where chunks go; None: they stay in the spool.
        number: gives a new snapshot its number, from that of the last one.
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
        reopen: Callable[[int, str | None, str, int | None], None],
        known: Known,
        number: Callable[[int], int] = lambda last: last + 1,
        furthest: Callable[[], Checkpoint | None] | None = None,
        stored: Stored | None = None,
    ) -> None:
        super().__init__(name="receiver", daemon=True)
        self.endpoint, self.port, self.log, self.snapshots = endpoint, port, log, snapshots
        self.place = Place(endpoint, port.task.spec.prefer_replica, port.event)
        self.source, self.committed, self._begin = source, committed, begin
        self._checkpoint, self._border, self._number = checkpoint, border, number
        self._furthest, self._reopen, self._known, self.stored = furthest or checkpoint, reopen, known, stored
        self.stop_event = threading.Event()
        self.error: BaseException | None = None
        self.alone = threading.Event()  # the task is suspended: the target is not to be touched
        self.connected = False
        self.received_bytes = 0  # of the snapshot that is coming, or came last
        self._ailing = False  # a retry window of our own side may be open
        self._publisher: Publisher | None = None  # of a snapshot received whole
        self._uploads: Uploads | None = None  # of the last snapshot
        self._gone: tuple[str | None, int | None] | None = None  # where the source could not go on from
        self._mended: tuple[str, int] | None = None  # where the log was begun anew for the applier
        self._fresh_until, self._acked_at = 0, 0.0
        self._slots = port.node().slot_ranges  # of a cluster; a job goes by the same all its life

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
                    self.stop_event.wait(self.port.failing(error))
        except BaseException as error:  # noqa: BLE001 - handed to the job, which ends with it
            self.error = error
        finally:
            with contextlib.suppress(Exception):  # not known whole, the next run takes the snapshot again
                self._await_publisher()
            self.log.close()

    def _follow(self) -> None:
        """One life of the link."""
        self._await_publisher()
        self._mend_log()
        node = self.port.node()
        goes_on = self._goes_on(node)
        if not goes_on:
            if self.alone.is_set():
                raise self._too_late()  # loading is for whoever resumes the task
            self._ask_target_first(node)
            self._known.fold(self.log)  # now, while the source waits for nothing
            if not self._loads:
                self._begin_here(node)
                goes_on = True
        self._over(ReplicaLink(self.place.choose(self.log.end)), self._resume if goes_on else self._start)

    def _over(self, link: ReplicaLink, begin: Callable[[ReplicaLink], None]) -> None:
        """Follow over a link, and close it, once `begin` has agreed with the source on where."""
        try:
            begin(link)
            self.connected = True
            self._has_room()
            self.port.healed("source")
            self._stream(link)
        finally:
            self.connected = False
            link.close()

    def _await_publisher(self) -> None:
        """See the last snapshot recorded whole, if one was received. Raises what came in between."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.wait()

    def _mend_log(self) -> None:
        """Begin the log anew where the applier needs it: a power cut has left a gap, or the disk spoiled a block."""
        if self.log.wanted is not None:
            replid, offset, db = self.log.wanted
            self._reset(replid, offset, db)
            self._mended = (replid, offset)
            self._ailing = True
            self.port.event("log", f"the log on disk was damaged: the stream is fetched again behind offset {offset}")

    def _reset(self, replid: str, offset: int, db: int) -> None:
        """Begin the log anew in mid-stream, in the stream's database `db`."""
        self._known.fold(self.log)
        self._known.go_on(offset, db)
        self.log.reset(replid, offset)

    def _goes_on(self, node: NodeView) -> bool:
        """Whether the stream goes on behind the log; else a snapshot is needed."""
        if self._is_anew():
            return False
        here = (self.log.replid, self.log.end)
        snapshot = self.snapshots / f"gen-{node.gen}"
        damaged = is_damaged(snapshot)
        if node.snapshot_done and self.log.replid is not None and here != self._gone and not damaged:
            return True
        found = self._checkpoint()
        if found is None or found.state == LOADING or found.gen < node.gen:
            if damaged:
                self._ailing = True
                check_worth(self.snapshots, node.gen)
            return False
        # The database, too, may have lost its last commits: the target knows.
        forget_damage(snapshot)
        if self.log.replid is None:
            self._reset(*self._needed(found))  # the spool was lost
            return True
        return here != self._gone or self._skip_ahead(found)

    def _needed(self, found: Checkpoint) -> tuple[str, int, int]:
        """From where on a target needs the log: replication id, offset, and the stream's database there."""
        return found.replid, found.offset, found.db

    def _is_anew(self) -> bool:
        """Whether the target is to be loaded anew, and now: of a suspended task, by whoever resumes it."""
        return self.log.anew and not self.alone.is_set()

    def _ask_target_first(self, node: NodeView) -> None:
        """A snapshot costs the source a fork: not even a second one is asked for while the target takes no write."""
        self._begin(node.gen)
        self.port.healed("target")

    def _resume(self, link: ReplicaLink) -> None:
        assert self.log.replid is not None
        assert self.log.end is not None
        self._fresh_until = self.source.offset()
        answer = link.psync(self.log.replid, self.log.end)
        if isinstance(answer, Continued):
            if answer.replid is not None:
                self.log.rename(answer.replid)
            return
        self._gone = (self.log.replid, self.log.end)
        if self._skip_ahead(self._checkpoint()):
            raise ConnectionLost(
                f"the source no longer has the stream that we have; the target has it up to {self.log.end}",
                side=Side.SOURCE,
                hint="Keyferry goes on from there by itself",
            )
        self._take(link, answer)

    def _skip_ahead(self, found: Checkpoint | None) -> bool:
        """What the source no longer has may be on the target: another copy of the state directory went further.

        Not if the applier itself has asked for what lies between, to doubt keys: it would ask again.
        """
        if found is None or found.state == LOADING or found.offset <= (self.log.end or 0):
            return False
        if self._mended == (self.log.replid, self.log.end):
            return False
        self._reset(found.replid, found.offset, found.db)
        return True

    def _too_late(self) -> CannotContinue:
        return CannotContinue(
            f"the source no longer has the stream behind offset {self.log.end} of {self.log.replid}",
            side=Side.SOURCE,
            hint="raise repl-backlog-size on the source; a full sync in place follows when the task is resumed",
        )

    def _start(self, link: ReplicaLink) -> None:
        answer = link.psync(None, 0)
        if not isinstance(answer, Full):
            raise ConnectionLost("the source continued a stream that was not asked for", side=Side.SOURCE)
        self._take(link, answer)

    @property
    def _loads(self) -> bool:
        return self.port.task.spec.loads

    def _begin_here(self, node: NodeView) -> None:
        """A generation of nothing, and the log behind it. Raises CannotContinue if the stream has begun before."""
        found = self._checkpoint()
        if node.begun or (found is not None and found.state == STREAMING):
            raise from_here.lost(self.log.end)
        if node.snapshot_done and node.replid is not None and node.snapshot_offset is not None:
            self._reset(node.replid, node.snapshot_offset, node.stream_db)  # it began so; its spool is lost
            return
        point = Point.parse(node.begins_at)
        answer, db = from_here.ask(self.place.choose(point.offset if point else None), node.begins_at)
        if point is not None and node.shard is not None:
            from_here.check_slots(self.endpoint, node.shard)  # only now: so none has moved before it was continued
        gen = self._new_generation(answer, 0)
        from_here.empty(self.snapshots / f"gen-{gen}")
        self._known.begin(answer.offset, db)
        self.log.reset(answer.replid, answer.offset)
        self.port.progress({"stream_db": db})
        self.port.end_snapshot(gen, 0, 0)

    def _take(self, link: ReplicaLink, answer: Full) -> None:
        """Receive a whole snapshot as a new generation."""
        if not self._loads:
            raise from_here.lost(self.log.end)
        if self.alone.is_set():
            raise self._too_late()  # loading is for whoever resumes the task
        link.settimeout(SILENCE_S)
        parts = link.snapshot()
        size = next(parts)
        assert not isinstance(size, bytes)
        gen = self._new_generation(answer, size)
        publisher = self._publisher_of(gen)
        reader = SnapshotReader(
            self.snapshots / f"gen-{gen}",
            closed=publisher.put,
            progress=self._progress,
            stopping=self.stop_event.is_set, waiting=self._waiting, lanes=self.port.task.lanes,
            sorts=not self.port.task.spec.transform.active,
            scope=Scope(self.port.task.databases, self.port.task.spec.filter, self._slots),
        )  # fmt: skip
        try:
            reader.read(link, parts)
        except BaseException as e:
            publisher.abandon()
            if isinstance(e, TimeoutError):
                raise classify(e, Side.SOURCE) from e
            raise
        self._known.fold(self.log)
        self._known.begin(answer.offset, reader.stream_db)
        self.log.reset(answer.replid, answer.offset)
        publisher.end(partial(self._end, gen, reader))
        self._publisher = publisher

    def _new_generation(self, answer: Full, size: int | None) -> int:
        """The number of the new generation; what was loaded of earlier ones is closed."""
        with self._border:
            node, found, last = self.port.node(), self._checkpoint(), self._furthest()
            keys = self.source.keys(self._databases()) if self._loads else 0
            if found is not None:
                check_open(found.state, found.offset)
            again = node.begun or last is not None  # of a cluster, some part may stream before others do
            number = self._number(max(node.gen, *self._known.gens, 0))
            if last is not None and last.state == STREAMING and last.gen == node.gen:
                self._known.own_up(last.offset, self.log)
            if again:
                self._reopen(number, self.log.replid or node.replid, answer.replid, keys)
            gen = self.port.begin_snapshot(answer.replid, answer.offset, 0, keys, size, number)
            self._begin(gen)
            self.log.anew = False
        how = "over what is there, " if again else ""
        self.port.event("snapshot", f"{how}snapshot {gen} of {answer.replid[:8]} at offset {answer.offset}")
        return gen

    def _databases(self) -> list[int] | None:
        """Source databases in scope; None: all."""
        return None if self.port.task.databases is None else list(self.port.task.databases)

    def _publisher_of(self, gen: int, *, written: bool = True, held: bool = False) -> Publisher:
        """Who records the chunks of a new snapshot."""
        stopping = self.stop_event.is_set
        self._uploads = Uploads(self.stored, stopping) if self.stored is not None and written else None
        return Publisher(partial(record, self.port, gen), self._waiting, stopping, written, self._uploads, held)

    def _end(self, gen: int, reader: SnapshotReader) -> None:
        """Every chunk is recorded."""
        self.port.progress({"stream_db": reader.stream_db})
        self.port.end_snapshot(gen, reader.chunks.keys, reader.chunks.bytes)

    def _progress(self, received: int) -> None:
        self.received_bytes = received
        self._has_room()

    def _waiting(self, error: Exception) -> float:
        assert isinstance(error, KeyferryError)
        self._ailing = True
        return self.port.failing(error)

    def _has_room(self) -> None:
        """A write went through: the window of a full or failing disk, if one is open, closes."""
        if self._ailing and not (self._uploads and self._uploads.trouble):
            self._ailing = False
            try:
                self.port.healed("control")
            except ControlError as error:
                if not is_away(error):
                    raise
                self._ailing = True

    def _stream(self, link: ReplicaLink) -> None:
        """Write what arrives to the log, and acknowledge what the target has."""
        link.settimeout(STEP_S)
        heard = turn = time.monotonic()
        snapshot = self.snapshots / f"gen-{self.port.node().gen}"
        while not self.stop_event.is_set():
            if self.log.wanted is not None or self._is_anew() or self.place.leave.is_set():
                return
            if self._publisher and self._publisher.error:
                return
            if self._acknowledge(link) and is_damaged(snapshot):
                return
            try:
                data = link.receive()
            except TimeoutError:
                turn = self._in_time(turn)
                if time.monotonic() - heard > SILENCE_S:
                    raise ConnectionLost(
                        f"the source has been silent for {SILENCE_S:.0f} s", side=Side.SOURCE
                    ) from None
                continue
            now = turn = self._in_time(turn)
            busy, heard = now - heard < 2 * GATHER_S and len(data) < RECV_BYTES, now
            end = self.log.end
            assert end is not None
            flags = BACKLOG if end < self._fresh_until else 0
            moment = now_ms()
            when_there_is_room(partial(self.log.append, data, moment, flags), self._waiting, self.stop_event.is_set)
            self._has_room()
            if busy:
                time.sleep(GATHER_S)  # fewer and larger blocks cost less than they delay

    def _in_time(self, turn: float) -> float:
        """Now; if we stood still since the last turn, or waited for the disk, what comes was written some time ago."""
        now = time.monotonic()
        if now - turn > STEP_S + max(STEP_S, self.port.task.spec.extend_expiry_s / 8):
            self._fresh_until = self.source.offset()
        return now

    def _acknowledge(self, link: ReplicaLink) -> bool:
        """Whether it was time to. Never the last byte received: a FAILOVER would pick us as the new master."""
        now = time.monotonic()
        if now - self._acked_at < ACK_EVERY_S:
            return False
        self._acked_at = now
        # Also 0, before there is a checkpoint: a source starts the stream behind a diskless snapshot at the first
        # ACK, and drops a replica that is silent for longer than repl-timeout.
        link.ack(min(self.committed() or 0, (self.log.end or 0) - 1))
        return True
