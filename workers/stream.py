"""The stream job: one source node, followed from its snapshot on for as long as it is wanted."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, KeyferryError, is_away
from sync_tasks.states import ChunkState
from sync_tasks.throttle import stream_limits
from sync_tasks.views import Orders
from workers import ending, relaning, ways_back
from workers.apply import Applier
from workers.beat import Beat
from workers.census import Census
from workers.in_sync import ASK_S, InSync
from workers.intake import Intake
from workers.lanes import Lanes
from workers.ports import StreamPort
from workers.pruning import Pruning, let_go
from workers.readers import receiver_of, sources_of
from workers.receive import Receiver
from workers.saying import in_words
from workers.scope import Scope
from workers.sharding import Slots, of_node
from workers.source.ask import Source
from workers.spool.damage import heed
from workers.spool.known import Known
from workers.spool.log import Log
from workers.spool.stored import Stored
from workers.target.claim import FINISHED
from workers.touching import Touching
from workers.watch import Watch

TICK_S = 0.1
REPORT_S = 0.4
SAY_S = 1.0
CALM_TICK_S = 0.5
CALM_ASK_S = 2.0
"""In sync, and nothing has come since the source was last asked: a machine may follow many sources that are idle. New
orders end such a tick at once."""
REPORT_ALL_S = 5.0
"""What has not changed is reported this often."""
QUIET_S = 5.0
"""A job that has run for so long without trouble of our own side is over it: an earlier owner may have died of it."""


class StreamJob:
    """Runs the receiver and the applier, renews the lease, and reports.

    Args:
        port: the claimed job.
        source, target: both ends.
        spool: the spool's directory.
        home: the checkpoint's database on the target.
        shift_s: after so long it ends at a checkpoint, and another shift begins somewhere.
        say: shows a line to people who watch the job; called about once a second.
        stored: where chunks go; None: they stay in the spool.
    """

    def __init__(
        self,
        port: StreamPort,
        source: Endpoint,
        target: Endpoint,
        spool: Path,
        home: int,
        shift_s: float = float("inf"),
        say: Callable[[str], None] = lambda _: None,
        stored: Stored | None = None,
    ) -> None:
        self.port, self.target, self.home, self.stored = port, target, home, stored
        self.touching = Touching(source, target)
        source = of_node(port, source)
        self.node = port.node()
        self.directory = spool / port.task.uid / str(self.node.number)
        self._source, self._sources = source, sources_of(port, source)
        self.source = self._sources.new()
        self.slots = Slots(port, self.source, source)
        limits = stream_limits(port.task.spec.throttle, port.task.spec.instance_class, 1)
        self.orders = Orders(receive_bytes=self.node.receive_bytes, limits=limits)  # as of the last beat
        self.applier: Applier | Lanes  # of the present run; a task that is suspended and resumed gets another
        self.receiver: Receiver
        self._beat = Beat(self.renew, patient=True)
        self.in_sync = InSync(self.source, self.slots)
        self._reported = self._asked = self._reported_all = 0.0
        self._heard: int | None = None  # end of the log when the source was last asked
        self._values: dict[str, Any] = {}  # last reported
        self._tidied = self._took_up = False
        self.relaning = relaning.Relaning(port, target)
        self._over_at = time.monotonic() + shift_s
        self._say, self._said = say, 0.0

    def run(self) -> None:
        """Until it is no longer wanted. Raises what ended it: Fenced, CannotContinue, a fatal error."""
        with self._beat:
            self._open()
            try:
                while self._carry() and self._receive():
                    pass  # it was suspended, and resumed
            finally:
                self._end()
            closed_at = self._closed_at()
            if closed_at is not None:
                self._finish(closed_at)
                return
        for thread in (self.receiver, self.applier):
            if thread.error is not None:
                raise thread.error

    def _carry(self) -> bool:
        """Bring the stream to the target. Whether the task was suspended, and the stream is still to be received."""
        if self.orders.receive_bytes is None:
            self.applier.start()
            while self._goes_on():
                self._beat.pause(CALM_TICK_S if self._calm() else TICK_S)
        return self.orders.receive_bytes is not None and self._may_go_on()

    def _receive(self) -> bool:
        """Leave the target alone, and receive. Whether the task was resumed, and the stream goes on to the target."""
        self.receiver.alone.set()
        self._stop_applying()
        applier = self.applier
        intake = Intake(self.port, self.log, self.receiver, self.source, lambda: applier.progress.committed, self._say)
        while self._may_go_on() and time.monotonic() <= self._over_at:
            self._beat.check()
            limit, end = self.orders.receive_bytes, self.log.end
            try:
                if limit is None:
                    return self._apply_again()
                if not self.orders.resting and not applier.is_alive():
                    intake.begin()
                    self.renew()
                if not intake.goes_on(limit):
                    return False
            except ControlError as error:
                if not is_away(error):
                    raise
            self._beat.pause(TICK_S if self.log.end != end else CALM_TICK_S)
        return False

    def _apply_again(self) -> bool:
        """An applier for the settings as they are now, on the link and the log that there are."""
        before = self.applier
        if before.is_alive():
            before.join(8.0)
        if before.is_alive():
            return False  # another shift begins
        self.port.reread()
        self.applier = self._applier()
        before.close()
        self.applier.after(before.border, before.progress.committed)
        self.census.anew(self.applier.scope)
        self.receiver.alone.clear()
        self.in_sync.forget()
        self._took_up, self._values = False, {}
        return True

    def _closed_at(self) -> int | None:
        """The offset at which the target is closed; None: it is not.

        An earlier owner may have closed it, and what it then left to the source need not go on any more.
        """
        if self.applier.closed_at is None and self.receiver.error is not None and self.applier.finishing.is_set():
            with contextlib.suppress(KeyferryError):
                found = self.applier.checkpoint()
                return found.offset if found is not None and found.state == FINISHED else None
        return self.applier.closed_at

    def _finish(self, offset: int) -> None:
        """The target is closed: say so, and up to where the source was followed."""
        self._take_up()  # a task that is being modified must go on before it can end
        last = {"held": 0, "settled": True, "source_offset": offset, "applied_offset": offset}
        self.port.progress({**last, "way_back": ways_back.noted(self.port, self.target, self.applier.checkpoint())})
        self.port.event("closed", f"node {self.node.number}: closed at offset {offset}; what follows is not carried")
        self.port.finished()
        let_go(self.directory, self.port.node().gen, self.stored)  # nothing is loaded from there any more

    def _open(self) -> None:
        """Read the log there is, which can take its time, and start to receive."""
        if self.port.moved:
            # The stream has gone on in another host's spool since: what lies here is of the past.
            if self.directory.exists():
                shutil.rmtree(self.directory)
            self.port.moved_in()
        self._heed_place()
        self.log = Log(self.directory / "log", self.port.epoch)
        self.known = Known(self.directory / "known", self.port.task.uid, self.port.epoch, self.stored)
        self.pruning = Pruning(self.log, self.known)
        if not self.node.gen and not self.node.begun:
            self.known.create()
        self.applier = self._applier()
        if self.orders.receive_bytes is not None:
            self.applier.came_to(self.node.applied_offset)
        self.census = Census(
            self._sources.new(), self.known, self.log, self.applier.scope, lambda: self.applier.checkpoint(),
            self.port.event,
        )  # fmt: skip
        self.receiver = receiver_of(self.port, self.target)(
            self._source, self.port, self.log, self.directory, self._sources.new(),
            committed=lambda: self.applier.progress.committed, begin=lambda gen: self.applier.close_earlier(gen),
            checkpoint=lambda: self.applier.checkpoint(), border=self.applier.border,
            reopen=lambda *what: self.applier.reopen(*what), known=self.known,
            number=lambda last: self.applier.number_snapshot(last), furthest=lambda: self.applier.furthest(),
            stored=self.stored,
        )  # fmt: skip
        if self.orders.receive_bytes is not None:
            self.receiver.alone.set()
        self.receiver.start()
        self.watch = Watch(self._source, self.target, self.receiver, self._sources, lambda at: self.applier.moved(at))
        self.watch.start()

    def _heed_place(self) -> None:
        """Of another store than ours nobody is told any more: if chunks wait there, a new snapshot comes into ours."""
        stored, gen = self.stored, self.node.gen
        if stored is None or self.node.begun:
            return
        waits = [c.path for c in self.port.chunks(gen) if c.state in (ChunkState.READY, ChunkState.RUNNING)]
        if any(map(stored.is_elsewhere, waits)):
            heed(self.directory, gen, f"{gen} damaged")

    def _applier(self) -> Applier | Lanes:
        made: Applier | Lanes
        if given := relaning.lanes_now(self.port, self.target, self.home, self.directory, self.log):
            made = Lanes(self.port, self.target, given, self._make, self._sources.new, self.log)
        else:
            scope = Scope(self.port.task.databases, self.port.task.spec.filter, self.node.slot_ranges)
            made = self._make(self.target, self.port, scope, self._sources.new())
        made.limit(self.orders.limits)
        self.touching.anew(self.port, made)
        if not self.slots.steady:
            made.finishing.clear()  # what its shard serves is not known yet
        return made

    def _make(self, target: Endpoint, port: StreamPort, scope: Scope, source: Source) -> Applier:
        made = Applier(target, port, self.log, source, self.directory, scope, self.home, self.known)
        made.extending.serves = lambda: self.slots.whole
        return made

    def renew(self) -> Orders:
        """A beat; what is asked of the job by now."""
        self.orders = self.port.renew()
        self.slots.heard(self.orders.slots)
        return self.orders

    def _goes_on(self) -> bool:
        """One tick. While the database is away nothing can be asked or said; the stream needs the target alone."""
        try:
            return self._tick()
        except ControlError as error:
            if not is_away(error):
                raise
            return True

    def _tick(self) -> bool:
        self._beat.check()
        if not self._may_go_on() or self.orders.receive_bytes is not None:
            return False
        self.applier.limit(self.orders.limits)
        ending.obey(self)
        self.port.healed("control", QUIET_S)
        self.relaning.turn(self.applier.progress.streaming)
        now = time.monotonic()
        if now > self._over_at and self.applier.progress.streaming:
            return False
        if self.applier.progress.streaming:
            self._take_up()
        if not self.applier.progress.streaming:
            self._tidied = False
            self._load()
        elif not self._tidied and self.applier.progress.settled_at is not None:
            self._tidied = True
            self._tidy()
        if self.applier.progress.streaming:
            self.pruning.turn(self.applier.progress.prunable)
        if self.applier.progress.streaming and self.applier.whole:
            self.census.turn(self.applier.progress.committed or 0)
        if now - self._asked >= (CALM_ASK_S if self._calm() else ASK_S):
            self._asked, self._heard = now, self.log.end
            log, connected = self.log, self.receiver.connected
            self.in_sync.ask(lambda: self.applier.progress, lambda: log.end, connected=connected)
        self.touching.turn(self.applier.progress, self.orders, in_sync=self._is_in_sync())
        if now - self._reported >= REPORT_S or self.orders.settling:
            self._reported = now
            self._report()
        return True

    def _may_go_on(self) -> bool:
        """Whether nothing has ended the job yet."""
        if self.receiver.error is not None or self.applier.error is not None or self.slots.stale:
            return False
        return self.applier.closed_at is None and self.orders.wanted and not self.orders.turn

    def _calm(self) -> bool:
        """Whether nothing has come since the source was last asked, and all of it is on the target."""
        return self._is_in_sync() and self.log.end == self._heard and not ending.is_near(self.orders)

    def _is_in_sync(self) -> bool:
        return self.in_sync.holds(self.applier.progress, connected=self.receiver.connected)

    def _take_up(self) -> None:
        """Say once that we work by the task's present settings."""
        if not self._took_up:
            self.port.took_up()
            self._took_up = True

    def _load(self) -> None:
        """Tell the applier once every chunk of the snapshot is in."""
        node = self.port.node()
        heed(self.directory, node.gen, node.spoiled)
        if node.snapshot_done:
            state = self.port.load_state(node.gen)
            if state.done == state.chunks:
                self.applier.loaded.set()
            else:
                self.applier.loaded.clear()

    def _tidy(self) -> None:
        """The load is closed and its expiries are settled: its files and temporary keys are of no more use."""
        with self.applier.border:
            node, gen = self.port.node(), self.applier.gen
            if not node.begun or gen is None or gen < node.gen:
                self._tidied = False  # another snapshot has just begun
                return
            if gen == node.gen:
                self.known.add(node.gen, [(c.db, c.path, c.keys) for c in self.port.chunks(node.gen)])
            else:
                self.known.forget()  # the database has lost its last commits: nobody knows the chunks
            let_go(self.directory, gen, self.stored)
        try:  # values that were being built when their loader died
            self.applier.remove_pieces([c for g in range(1, node.gen + 1) for c in self.port.chunks(g)])
        except KeyferryError:
            self._tidied = False  # next tick tries again

    def _report(self) -> None:
        progress = self.applier.progress
        values: dict[str, Any] = {
            "received_offset": self.log.end,
            "applied_offset": progress.committed,
            "source_offset": self.in_sync.sample,
            "in_sync": self._is_in_sync(),
            "held": progress.held,
            "settled": progress.streaming and progress.settled_at is not None,
            "delay_ms": self.source.later(progress.delay_ms), "windows": progress.windows,
            "unextended": progress.unextended and self.orders.settling,
            "changed_offset": progress.changed_offset,
            "changed_by": progress.changed_by,
        }
        now = time.monotonic()
        if not self._calm() or values != self._values or now - self._reported_all >= REPORT_ALL_S:
            self._values, self._reported_all = values, now
            self.port.progress(values)
        if now - self._said >= (REPORT_ALL_S if self._calm() else SAY_S):
            self._said = now
            self._say(in_words(self.port, self.applier.progress, in_sync=self._is_in_sync()))

    def _end(self) -> None:
        """Stop at a checkpoint: the receiver first, then what is in flight."""
        self.watch.stop()
        self.touching.stop()
        self.receiver.stop_event.set()
        self._stop_applying()
        for thread in (self.applier, self.receiver):
            if thread.is_alive():
                thread.join(8.0)
        with contextlib.suppress(KeyferryError):
            self.slots.leave()
        with contextlib.suppress(KeyferryError):
            # Offsets alone: whether it was in sync and settled is what was last seen while it ran.
            self.port.progress({"received_offset": self.log.end, "applied_offset": self.applier.progress.committed})
        self.census.close()
        self.applier.close()
        self._sources.close()

    def _stop_applying(self) -> None:
        self.applier.stop_event.set()
        self.applier.loaded.set()
        self.log.wake()
