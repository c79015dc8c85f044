"""The cut-over of a task, step by step, by one worker at a time.

    delay      the target is near enough
    writers    nobody writes to the source; who does is named
    way back   the target keeps its stream, if a task is to be able to follow it
    expiries   the streams settle every expiry to the source's own time, and go on
    pause      writes to the source wait, if that may be
    drain      the target has all up to the offset at which the source stands
    verify     both are compared
    close      the streams close the target (`workers.cutover`)

Up to the last one everything is undone if anything fails, or if whoever does it dies: the streams go back to following.
Where it stands is kept with the operation (`finish_steps`), and the order to close in the task: once that is given it
is carried out, whoever dies. A step that waits for long gives the operation back meanwhile.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict
from typing import Any

from sync_tasks.errors import ControlError, Fenced, KeyferryError, SourceError, TargetError
from sync_tasks.states import RUNNING, Stage, TaskState
from sync_tasks.views import NodeView
from workers import way_back
from workers.finish_base import Turn, delay_of
from workers.finish_steps import Later
from workers.finish_verify import compare
from workers.hold import Hold
from workers.target.claim import FINISHED
from workers.writers import Look, in_words, quiet

QUIET_S = 1.0
"""Nobody writes if nobody has for so long."""
LATER_S = 1.0
POLL_S = 0.01
DRAIN_S = 30.0
MOST_TRIES = 3
PATIENT_S = 5.0
"""A wait that is longer gives the operation back."""


class Finish(Turn):
    """A turn at it."""

    def turn(self) -> None:
        """On with it. Raises Later, and what made it fail: everything is undone then, if that can be."""
        try:
            if self.task.cutover is Stage.CLOSE or self.task.state is TaskState.FINISHED:
                self._pause_again()
                self._close()
            else:
                self._clear_up()
                self._prepare()
                self._cut()
            self._afterwards()
        except Later:
            raise
        except Fenced:
            if self.holds is not None:
                self.holds.leave()  # whoever has the operation now may have paused them, too
            raise
        except BaseException:
            if not self._undo():
                raise Later(LATER_S) from None  # whoever goes on tries that again before all else
            raise
        finally:
            self.close()

    # --- undoing

    def _clear_up(self) -> None:
        """Whoever had it before may have died in the middle."""
        kept = self.steps.kept
        if not self._undo():
            raise Later(LATER_S)
        kept.pop("held", None)
        if kept.pop("cutting", False):
            kept["tries"] = kept.get("tries", 0) + 1
            self.port.order(Stage.ASKED)
            self.steps.anew()
            if kept["tries"] >= MOST_TRIES:
                raise ControlError(
                    f"it was interrupted {MOST_TRIES} times", hint="see the workers' logs", code="interrupted"
                )
            with self.steps.step("interrupted") as step:
                step.warn("its worker was lost, all is undone; it begins again")

    def _pause_again(self) -> None:
        """The last owner has died, and its pause is over: not for longer than need be."""
        if self.asked.pause and self.task.state is not TaskState.FINISHED:
            self.holds = self._held()
            self.holds.begin()

    # --- before

    def _prepare(self) -> None:
        if not self.steps.over("delay"):
            with self.steps.step("delay") as step:
                step.text = self._near()
            try:
                self._refuse_writers()  # before anything is changed for nothing
            except SourceError:
                with self.steps.step("writers"):
                    raise
        if not self.steps.over("expiries"):
            with self.steps.step("expiries") as step:
                if self.task.spec.transform.active:
                    step.skip("with a transform they are settled as the target is closed")
                else:
                    step.text = self._settled()

    def _near(self) -> str:
        """The delay, once it is under the threshold."""
        self._running()
        delays = [delay_of(node) for node in self.nodes]
        worst = max((delay for delay in delays if delay is not None), default=0.0)
        if None in delays or worst >= self.asked.delay_threshold_ms or self.task.state is not TaskState.SYNCHRONIZING:
            raise Later(LATER_S)
        return f"{worst:.0f} ms, the threshold is {self.asked.delay_threshold_ms} ms"

    def _settled(self) -> str:
        self.port.order(Stage.SETTLE)
        by = time.monotonic() + PATIENT_S
        while True:
            self.beat.check()
            self._running()
            if all(node.unextended for node in self.nodes):
                held = sum(node.held or 0 for node in self.nodes)
                return f"every one is the source's own{f', but for {held} just written' if held else ''}"
            if time.monotonic() > by:
                raise Later(LATER_S)
            time.sleep(0.1)

    def _refuse_writers(self) -> None:
        """Raise if somebody writes and nobody has agreed to that."""
        if self.asked.pause or self.asked.force:
            return
        for node in self.nodes:
            counts, clients = quiet(self._writers(node), QUIET_S, self._sleep, self._concerns(node))
            if counts:
                raise written(node, in_words(counts, clients))

    # --- the cut itself

    def _cut(self) -> None:
        self.steps.kept["cutting"] = True
        self.steps.save()
        with self.steps.step("writers") as step:
            if self.asked.pause:
                step.skip("their writes are paused")
            elif self.asked.force:
                step.skip("--force: what is written behind the end is not carried")
            else:
                self._refuse_writers()
                step.text = f"no client has written to the source for {QUIET_S:g} s"
        with self.steps.step("way back") as step:
            if self.asked.way_back or self.asked.reverse:
                made = way_back.keep(self.target)
                step.text = f"the target keeps its stream{', since now' if made else ''}"
            else:
                step.skip("not asked for; it is there if the target keeps a backlog anyway")
        with self.steps.step("pause") as step:
            if self.asked.pause:
                self.holds = self._held()
                self.steps.kept["paused_at"] = time.time()
                self.holds.begin()
                step.text = ", ".join(hold_words(hold) for hold in self.holds.holds)
            else:
                step.skip("writes to the source are not paused")
        began = {node.number: self._writers(node).look() for node in self.nodes}
        with self.steps.step("drain") as step:
            step.text = self._drained(began)
        verifying = time.monotonic()
        with self.steps.step("verify") as step:
            depth = self.asked.depth(self.task.spec)
            if depth == "off":
                step.skip("off")
            else:
                still = self.holds is not None
                compared, expired = compare(self.source, self.target, self.task, depth, self._check, still=still)
                over = f", {expired:,} have expired" if expired else ""
                step.text = f"{compared:,} keys are equal ({depth}){over}"
        self.steps.kept["verified_s"] = round(time.monotonic() - verifying, 3)
        self._still_paused(began)
        self.steps.kept["baseline"] = {str(number): asdict(look) for number, look in self._looks().items()}
        self.steps.save()
        self.port.order(Stage.CLOSE)
        self._close()

    def _looks(self) -> dict[int, Look]:
        return {node.number: self._writers(node).look() for node in self.nodes}

    def _check(self) -> None:
        """Raise if it cannot go on."""
        self.beat.check()
        if self.holds is not None:
            self.holds.check()

    def _still_paused(self, began: dict[int, Look]) -> None:
        """See that nobody has written behind the offset that was drained to."""
        self._check()
        if self.holds is None:
            return
        for node in self.nodes:
            writers = self._writers(node)
            now = writers.look()
            if (counts := writers.between(began[node.number], now)) or now.run_id != began[node.number].run_id:
                raise SourceError(
                    f"the source was written to during the pause ({in_words(counts, [])})" if counts
                    else "the source is another server than when the pause began",
                    code="pause-lost", hint="ask again",
                )  # fmt: skip

    def _drained(self, goals: dict[int, Look]) -> str:
        by = time.monotonic() + DRAIN_S
        waiting = list(self.nodes)
        while waiting:
            self._check()
            waiting = [node for node in waiting if not self._has(node, goals[node.number])]
            if waiting and time.monotonic() > by:
                raise TargetError(
                    f"the target has not come to where the source stands within {DRAIN_S:.0f} s",
                    code="drain", hint="see the task's delay and events, and ask again",
                )  # fmt: skip
            time.sleep(POLL_S if waiting else 0)
        return ", ".join(f"node {number} to offset {look.offset}" for number, look in goals.items())

    def _has(self, node: NodeView, goal: Look) -> bool:
        found = self._checkpoint(node)
        if found is None:
            return False
        if found.offset >= goal.offset and found.replid != goal.replid:
            self._running()
            raise SourceError("the source has changed hands meanwhile", code="pause-lost", hint="ask again")
        return found.offset >= goal.offset

    def _close(self) -> None:
        if self.steps.over("close"):
            return
        with self.steps.step("close") as step:
            found = self._closed()
            if self.holds is not None and not self.asked.reverse:
                self.holds.last(self.asked.pause_limit_s)
            kept = self.steps.kept
            if "paused_at" in kept and "paused_s" not in kept:
                kept["paused_s"] = round(max(0.0, time.time() - kept["paused_at"]), 3)
            kept["offsets"] = [found[node.number] for node in self.nodes]
            kept["ends"] = {str(number): offset for number, offset in found.items()}
            step.text = ", ".join(f"node {number} at offset {offset}" for number, offset in found.items())
            if "paused_s" in kept:
                step.text += f"; writes had been paused for {kept['paused_s']:.2f} s"
                step.text += f", {kept.get('verified_s', 0):.2f} s of that to verify"

    def _closed(self) -> dict[int, int]:
        """Where each stream has ended, once all have."""
        while True:
            self.beat.check()
            found = {node.number: self._checkpoint(node) for node in self.nodes}
            done = {number: one.offset for number, one in found.items() if one is not None and one.state == FINISHED}
            if len(done) == len(self.nodes):
                return done
            self.task, self.nodes = self.port.state()
            if self.task.state is TaskState.FINISHED:
                return {node.number: node.applied_offset or 0 for node in self.nodes}
            if self.task.state not in RUNNING:
                raise self._stopped()
            time.sleep(POLL_S)

    def _stopped(self) -> KeyferryError:
        return ControlError(
            f"it is {self.task.state.value}, and was being closed",
            hint="resume it: it goes on with the cut-over", code="suspended",
        )  # fmt: skip

    # --- afterwards

    def _afterwards(self) -> None:
        with self.steps.step("finished") as step:
            self._await_finished()
            step.text = "the task never writes to the target again; what it was granted by roles is revoked"
        if self.asked.reverse:
            self._undo()
            with self.steps.step("reverse") as step:
                try:
                    step.text = f"task {self.steps.mark('reversed', self.port.reverse())} goes back"
                except KeyferryError as error:
                    step.warn(f"it is cut over, but {error.message}: {error.hint}")
            return
        held = self.steps.kept.get("held") if self.asked.pause else None
        if "baseline" in self.steps.kept:
            ends = self._ends()
            self.port.watch(
                {
                    "baseline": self._baseline(ends),
                    "offsets": ends,
                    "held": held or {},
                    "held_until": time.time() + self.asked.pause_limit_s,
                    "began": time.time(),
                }
            )

    def _ends(self) -> dict[str, int]:
        """Where each stream has ended, by the number of its node."""
        kept = self.steps.kept
        return kept["ends"] if "ends" in kept else dict(zip(kept["baseline"], kept["offsets"], strict=False))

    def _baseline(self, ends: dict[str, int]) -> dict[str, dict[str, Any]]:
        """What each source had seen before the end. Of one that has come since, a shard that was added to a cluster
        while the target was closed, it is what it has seen by now, if it says so."""
        found = {number: look for number, look in self.steps.kept["baseline"].items() if number in ends}
        for node in self.nodes:
            if (number := str(node.number)) in ends and number not in found:
                with contextlib.suppress(KeyferryError):
                    found[number] = asdict(self._writers(node).look())
        return found

    def _await_finished(self) -> None:
        while self.task.state is not TaskState.FINISHED:
            self.beat.check()
            self.task, self.nodes = self.port.state()
            if self.task.state not in RUNNING | {TaskState.FINISHED}:
                raise self._stopped()
            time.sleep(0.05)


def hold_words(hold: Hold) -> str:
    """How it is paused, for people."""
    if hold.how.pause:
        return f"CLIENT PAUSE WRITE on {hold.endpoint.address()}"
    return f"CONFIG SET {hold.how.setting} on {hold.endpoint.address()}: writes are refused"


def written(node: NodeView, what: str) -> SourceError:
    return SourceError(
        f"somebody writes to the source: {what} (node {node.number})",
        code="source-written",
        hint="stop those writes; or pause them with --pause, or go on in spite of them with --force",
    )
