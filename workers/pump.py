"""The applier's loop: from the log into windows, from windows to the target, and settling in between."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sync_tasks.errors import RefusedCommand, TransformError
from workers.added import Added
from workers.adding import Adding
from workers.building import part
from workers.cutover import CutOver
from workers.feed import Feed
from workers.leaving import Leaving
from workers.moment import now_ms
from workers.reach import nowhere
from workers.repair import Repair
from workers.settle import Settler
from workers.spool.log import Cursor
from workers.suspects import Behind, Suspects
from workers.target.error_count import error_count
from workers.target.link import SILENCE_S, lost
from workers.target.windows import Chain, Window
from workers.translate import Translator
from workers.trimmed import Trimmed
from workers.turns import Turns

if TYPE_CHECKING:
    from workers.apply import Applier

FLYING_WINDOWS = 24
FLYING_BYTES = 4 << 20
GATHER_S = 0.002
"""With windows in flight, a small one waits this long for more commands."""
PATIENCE_S = 0.1
"""A target that has said nothing for so long is listened to word by word."""
IDLE_S = 0.05
CALM_S = 1.0
"""Nothing is left to do: what comes, or a stop, wakes us."""
MUCH_BYTES = 1024
SOON_S = 0.1
"""What changes nothing, and is more than that, is checkpointed so often."""
CHECKPOINT_S = 1.0
"""Stream bytes that change nothing (PING) are checkpointed about this often."""
NEAR_BYTES = 1 << 20
"""Fewer bytes than this behind the source counts as caught up."""
ASK_S = 0.5
STAND_S = 0.02
STOP_S = 5.0


class Pump:
    """One connection's life of streaming; ends by an error, when the job is to stop, or with the cut-over."""

    def __init__(
        self,
        chain: Chain,
        translator: Translator,
        cursor: Cursor,
        settler: Settler,
        cutover: CutOver,
        applier: Applier,
        suspects: Suspects,
        repair: Repair | None = None,
        adding: Adding | Leaving | None = None,
    ) -> None:
        self.chain, self.translator, self.cursor, self.settler = chain, translator, cursor, settler
        self.cutover, self.suspects, self.adding = cutover, suspects, adding
        self.applier, self.progress, self.log, self.pace = applier, applier.progress, applier.log, applier.pace
        self.feed = Feed(cursor, translator, settler, suspects, applier.clock, repair)
        self._committed_at = self._gather_until = self._asked_at = 0.0
        self._settled_last = False
        self._turns = Turns()  # of what is added, and of the stream
        self._putting: Window | None = None  # has copied values, and waits for what is built ahead of it
        chain.collects = True

    def run(self) -> None:
        heard = moved = time.monotonic()
        stop_by = 0.0
        while True:
            now = time.monotonic()
            stopping = self.applier.stop_event.is_set()
            if self.chain.closed and not self.chain.flying:
                self.applier.closed(self.chain.link, self.chain.tip[0])
                return
            if self.applier.reopened.is_set():
                return
            self.applier.stay()
            if stopping:
                stop_by = stop_by or now + STOP_S
                if not self.chain.flying or now > stop_by:
                    return
            elif not self.chain.closed:
                self._work(now)
            self._report()
            if not self.chain.flying:
                heard = moved = now
                if self.cursor.offset >= (self.log.end or 0) and not self.translator.window.commands:
                    self._well()
                idle = not stopping and (self.feed.repair is not None or not (self.settler.due() or self._adds))
                if idle and (pause := self.pace.wait_s()):
                    time.sleep(min(pause, IDLE_S))
                elif idle and not self.log.wait(self.cursor.offset, CALM_S if self._calm() else IDLE_S):
                    self.feed.flush()
                self._catch_up(now)
                continue
            timeout, sent = GATHER_S if self.translator.window.commands else 0.05, self.chain.sent
            done = self.chain.pump(timeout, patient=now - heard < PATIENCE_S)
            if done:
                heard = moved = now
                self._done(done, now)
            elif self.chain.pouring is not None and self.chain.sent != sent:
                moved = now  # it takes what is long; a few bytes would go into a dead line, too
            elif now - moved > SILENCE_S:
                raise lost(f"the target has been silent for {SILENCE_S:.0f} s")
            self._catch_up(now)

    def _well(self) -> None:
        """The target takes what it is sent; and the source has answered, if there is nothing to be asked."""
        self.applier.port.healed("target")
        if self.feed.repair is None and self.adding is None and self.chain.refused is None:
            self.applier.answered()

    def _calm(self) -> bool:
        """Whether time alone brings nothing to do: all is committed and settled, and no end is near."""
        window = self.translator.window
        done = not window.commands and self.cursor.offset == window.end == self.chain.tip[0]
        holding = self.settler.dirty or self.applier.clock.holding
        busy = (holding and not self.applier.clock.to_the_end) or self.applier.finishing.is_set() or self.cutover.near
        return done and not busy and self.feed.repair is None and self.adding is None

    def _work(self, now: float) -> None:
        """Whatever is next: the end, settling, more of the stream."""
        self.settler.glance()
        if self.feed.behind:
            if not self.chain.flying:
                raise Behind(self.chain.tip[0] if self.chain.refused is None else -1)
            return
        if self.feed.repair is None and self.chain.refused is not None:
            if not self.chain.flying:
                self._doubt(self.chain.refused)
            return
        if self.feed.repair is not None:
            self._mend(self.feed.repair, now)
            return
        if self._add_now():
            self._add()
            return
        if self.adding is None:
            self.cutover.obey(self.applier, self.translator.offset)
        if self.cutover.due(now):
            if not self.chain.flying:
                self._close(now)
            return
        self.applier.stands_at = None
        if self._settle_now():
            self._settle()
        else:
            self._fill(now)

    def _close(self, now: float) -> None:
        """Of a cluster, once the streams of all shards stand still: else slots that move in between are nobody's."""
        self.applier.stands_at = self.chain.tip[0]
        if self.applier.may_close.wait(STAND_S):
            self.cutover.close(now)

    def _doubt(self, refused: list[RefusedCommand]) -> None:
        """Commands were refused, and nothing is in flight: their keys are copied anew, as far as the stream was sent.

        A source that goes on with what the target does not know costs no connection each time, nor a look for what is
        held.
        """
        chain, applier, rewriter = self.chain, self.applier, self.translator.rewriter
        if rewriter.older.kinds.get(refused[0].argv[0].upper()) != "unknown":  # of those it was said once
            applier.sparing("refused", f"{refused[0].message}; its keys are copied anew")
        if self.settler.limit is not None:
            self.settler.give_up()
        chain.refused = []
        repair = Repair(
            chain.link, self.log, applier.source, rewriter.scope, chain.point(), refused, self.suspects, applier.pause,
            applier.port.event, rewriter.stands_for,
        )  # fmt: skip
        if not repair.doubt():
            chain.trust(error_count(chain.link, chain.ck))
            return
        repair.aim(*chain.tip[:2])
        if repair.limit is None or repair.limit < self.feed.fed:
            raise nowhere()
        self.feed.repair = repair

    def _mend(self, repair: Repair, now: float) -> None:
        """On to where doubted keys are known, then put them."""
        chain = self.chain
        if self._putting is not None:
            self._put(self._putting)
        elif repair.put_in is not None:
            if not chain.flying:
                self._mended(repair)
        elif not repair.reached(chain.tip):
            self._fill(now)
        elif not chain.flying:
            repair.covers(chain.refused or [])
            window = chain.own_window()
            repair.put(window, self.translator.rewriter, self.pace)
            self._putting = window
            self.applier.databases.prove(window.databases | {db for db, _ in window.ahead})

    def _put(self, window: Window) -> None:
        """Values copied anew, behind what is built ahead of them."""
        chain = self.chain
        while len(chain.flying) < FLYING_WINDOWS and chain.flying_bytes < FLYING_BYTES and chain.pouring is None:
            if self.pace.wait_s():
                return
            if (ahead := part(window, chain)) is None:
                self._push(window)
                self._putting = None
                return
            self._push(ahead)

    def _mended(self, repair: Repair) -> None:
        """The values are put: either nothing is doubted any more, or another round begins."""
        offset, db, _ = self.chain.tip
        if not repair.done:
            self.chain.refused = []
            if repair.behind is not None:
                # What was doubted before that is as at the source: whoever goes on after a death begins there.
                self.chain.seen, self.chain.seen_db = repair.behind
            repair.aim(offset, db)
            return
        self.feed.repair = None
        self.chain.trust(error_count(self.chain.link, self.chain.ck))
        self.applier.sparing("repaired", f"{len(repair.keys)} keys were copied anew, the last at offset {offset}")

    @property
    def _adds(self) -> bool:
        """Whether something that is added is to be copied now."""
        return self.adding is not None and self.adding.due() and not self.pace.wait_s()

    def _add_now(self) -> bool:
        """It takes turns with traffic; once the last window of it is pushed, nothing else follows."""
        if self.adding is not None and self.adding.over:
            return True
        ahead = self.translator.full[0] if self.translator.full else self.translator.window
        if ahead.alone or not self._adds:
            return False
        if not self.translator.full and not ahead.commands and self.cursor.offset >= (self.log.end or 0):
            return True
        return self._turns.mine()

    def _add(self) -> None:
        if self.chain.flying:
            return
        assert self.adding is not None
        if self.adding.over:
            raise Added
        if isinstance(self.adding, Adding) and self.adding.went_on:
            self.applier.answered()  # it may go on for longer than a retry window
        if (window := self.adding.step()) is not None:
            self._push(window)

    def _settle_now(self) -> bool:
        """Settling takes turns with traffic, and begins once what is in flight is answered.

        A window that wipes the checkpoint's database begins then, too: it goes first, lest it waits for all of them.
        """
        ahead = self.translator.full[0] if self.translator.full else self.translator.window
        if self._settled_last or ahead.alone or not self.settler.due():
            self._settled_last = False
            return False
        return True

    def _settle(self) -> None:
        if self.chain.flying:
            return
        self._settled_last = True
        if (window := self.settler.step()) is not None:
            self.chain.push(window)

    def _fill(self, now: float) -> None:
        chain, translator = self.chain, self.translator
        translator.keep_to(self.pace)
        while len(chain.flying) < FLYING_WINDOWS and chain.flying_bytes < FLYING_BYTES and chain.pouring is None:
            if self.pace.wait_s() or self.applier.stop_event.is_set():  # what is not in scope may go on for long
                return
            if translator.full:
                if self._goes_ahead(translator.full[0]):
                    continue
                if not self._push(translator.full[0]):
                    return
                translator.full.pop(0)
                continue
            if self.feed.failed is not None:
                self._up_to(self.feed.failed)
                return
            block = self.feed.next()
            if block is not None:
                self.feed.give(block)
                continue
            if self.feed.at_stop():
                self.feed.stop_there()
                if self.feed.failed is not None:
                    continue
            if not self._worth_taking(now) or (chain.flying and self._goes_alone(translator.window)):
                return
            if (window := translator.take()) is None:
                return
            self._push(window)

    def _goes_ahead(self, window: Window) -> bool:
        """Put the next part of what is built ahead of a window in front of it; whether there was any."""
        if (ahead := part(window, self.chain)) is None:
            return False
        self.translator.full.insert(0, ahead)
        return True

    def _up_to(self, failed: TransformError | Trimmed) -> None:
        """Commit what lies before the command at which it has come to an end; then raise that."""
        if self.chain.flying:
            return
        if (window := self.translator.take()) is not None:
            self._push(window)
            return
        if isinstance(failed, TransformError):
            raise failed
        self.applier.extending.trim(self.chain, self.translator.rewriter.scope, failed.slots)

    def _worth_taking(self, now: float) -> bool:
        goal = self.feed.limit or self.cutover.goal
        if goal is not None and self.chain.tip[0] < goal <= self.translator.window.end:
            return True
        window = self.translator.window
        if not window.commands:
            # What is out of scope is passed over: the source is to hear of that, and who watches.
            much = (window.end - window.start > MUCH_BYTES or self.cutover.near) and now - self._committed_at > SOON_S
            return much or now - self._committed_at > CHECKPOINT_S
        if not self.chain.flying:
            self._gather_until = 0.0
            return True
        if not self._gather_until:
            self._gather_until = now + GATHER_S
        if now < self._gather_until:
            return False
        self._gather_until = 0.0
        return True

    def _goes_alone(self, window: Window) -> bool:
        """Whether nothing may be in flight when it is sent."""
        return window.alone or bool(self.applier.databases.unproven(window))

    def _push(self, window: Window) -> bool:
        if self._goes_alone(window):
            if self.chain.flying:
                return False
            self.applier.databases.prove(window.databases)
        self.chain.push(window)
        self.pace.took(window.commands, window.size)
        return True

    def _done(self, done: list[Window], now: float) -> None:
        if any(window.end > window.start for window in done):  # our own leave the stream where it is
            self._committed_at = now
        if self.chain.refused is not None:
            self.progress.held = self.progress.settled_at = None  # before it is told how far the target is
        self._well()
        last = done[-1]
        self.cutover.saw(done, self.progress)
        if any(self.applier.clock.is_late(w.received_ms) and w.end > self.suspects.covered for w in done):
            raise Behind(-1)
        self.progress.committed = last.end
        self.progress.windows += len(done)
        if last.received_ms:
            self.progress.latency_ms = max(0.0, float(now_ms() - last.received_ms))
        base = last.end if self.adding is None else self.adding.base
        self.progress.prunable = min(last.end, self.chain.seen, base)
        if self.applier.sample is not None:
            self.applier.sample.take(done, now)

    def _report(self) -> None:
        flying = self.chain.flying
        oldest = next((w.received_ms for w in flying if w.received_ms), 0) or self.translator.window.received_ms
        self.progress.oldest_ms = oldest or None
        self.progress.unextended = self.cutover.unextended
        doubted = self.chain.refused is not None
        passed = None if flying or doubted else self.translator.passed
        self.progress.reached = passed or (self.chain.seen if doubted else self.progress.committed)
        unsure = doubted or self.adding is not None
        self.progress.held, self.progress.settled_at = (None, None) if unsure else self.settler.state()
        self.applier.left_out.tell()

    def _catch_up(self, now: float) -> None:
        """Once near the source, new times carry the extension alone, and the held ones are settled."""
        if not self.applier.clock.holding or self.applier.clock.to_the_end or now - self._asked_at < ASK_S:
            return
        if (self.log.end or 0) - self.cursor.offset > NEAR_BYTES:
            return
        self._asked_at = now
        if self.applier.near(self.cursor.offset + NEAR_BYTES):
            self.chain.fresh_ms = self.applier.clock.caught_up(self.chain.fresh_ms)
