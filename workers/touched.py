"""Keys that the stream has written are compared shortly after, a sample of them (`verify.mode = "full+incremental"`).

A thread beside the applier, with connections of its own: they are asked at a limited pace, so that it leaves the
processor to whoever brings the stream. Only while the target is in step, and no expiry is held, does a comparison tell
anything: else keys wait. A difference counts if it outlives its re-checks, and if the stream was in step all the while.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Fenced, KeyferryError
from sync_tasks.throttle import Limits
from sync_tasks.verification import KINDS
from sync_tasks.verify_spec import verify_limits
from workers.ports import StreamPort
from workers.sampling import Key, Sample
from workers.saying import Sparing
from workers.scope import Scope
from workers.verify.findings import Finding, Pair, Report
from workers.verify.flux import Patience
from workers.verify.run import opened
from workers.verify.sides import Sides
from workers.verify.walk import Walk
from workers.verify.wire import pack

STEP_S = 0.25
"""Between two looks at what waits."""
LEAST_WAIT_S = 0.5
DELAYS = 2
"""So many times the delay of the stream a key waits since it was written."""
LEAST_BATCH = 50
COMMANDS = 25
"""That a key costs each side at most, re-checks of some keys among them: so the pace follows from the rate of keys."""
AGAIN_S = 30.0
"""What differed is looked at again this often."""
PAUSE_S = 5.0
"""After a side could not be asked."""
REPORT_S = 5.0
SILENT_S = 3.0
MOST_NAMED = 100
NAMED = 5
"""Keys in an event."""
EXISTS = b"EXISTS"


class _Over(Exception):
    """The job ends."""


class Touched(threading.Thread):
    """Of one stream job.

    Args:
        port: the claimed job.
        source, target: both ends, whole: of a cluster all its shards.
    """

    def __init__(self, port: StreamPort, source: Endpoint, target: Endpoint) -> None:
        super().__init__(name="touched", daemon=True)
        task = port.task
        self._port, self._ends, self._task = port, (source, target), task
        self._scope = Scope(task.databases, task.spec.filter)
        self.sample = Sample(task.spec.verify.keys_per_s)
        self._say = Sparing(port.event)
        self._stop_event = threading.Event()
        self._steady = self._disturbed = self._remembered = False
        self._turned_at = self._delay_s = 0.0
        self._patience = Patience(sleep=self._sleep, samples=False)
        self._opened: tuple[ExitStack, Sides] | None = None
        self._compared = self._in_flux = 0
        self._counts: Counter[str] = Counter()
        self._named: dict[tuple[Pair, bytes, str], dict[str, Any]] = {}  # those that differed when last looked at
        self._error: str | None = None
        self._told: dict[str, Any] | None = None
        self._told_at = self._again_at = 0.0

    # --- for the job

    def turn(self, *, steady: bool, delay_ms: float | None) -> None:
        """How the stream is, several times a second. The first time that it is steady, the thread begins.

        Args:
            steady: it is in step, and no expiry on the target is held.
        """
        self._delay_s, self._turned_at = (delay_ms or 0.0) / 1000, time.monotonic()
        self._steady = steady
        self._disturbed |= not steady
        if steady and self.ident is None:
            self.start()

    def stop(self) -> None:
        """End soon."""
        self._stop_event.set()
        self.sample.some.set()

    # --- the thread

    def run(self) -> None:
        try:
            while True:
                self._wait()
                try:
                    self._look()
                except KeyferryError as error:
                    self._close()
                    if isinstance(error, Fenced):
                        return
                    self._error = error.line()
                    with suppress(KeyferryError):  # it is told later, or nobody wants to hear it
                        self._tell()
                    self._sleep(PAUSE_S)
        except _Over:
            pass
        finally:
            self._close()

    def _wait(self) -> None:
        """Until there is something to look at."""
        left = max(1.0, self._again_at - time.monotonic()) if self._named else None
        self.sample.some.wait(left)
        self._sleep(STEP_S)
        while not self._is_steady():
            self._sleep(STEP_S)

    def _is_steady(self) -> bool:
        """A job that has said nothing for a while is suspended, or stands still: nobody knows then."""
        return self._steady and time.monotonic() - self._turned_at < SILENT_S

    def _sleep(self, seconds: float) -> None:
        if self._stop_event.wait(seconds):
            raise _Over

    def _look(self) -> None:
        now = time.monotonic()
        self._remember()
        if self._named and now >= self._again_at:
            self._again_at = now + AGAIN_S
            self.sample.again([(pair.target, key) for pair, key, _ in self._named])
        most = max(LEAST_BATCH, self._task.spec.verify.keys_per_s)
        while keys := self.sample.ripe(max(LEAST_WAIT_S, DELAYS * self._delay_s), most):
            try:
                self._compare(keys)
            except KeyferryError:
                self.sample.again(keys)
                raise
            if len(keys) < most or not self._is_steady():
                break
        if self._told is None or now - self._told_at >= REPORT_S:
            self._tell()

    def _compare(self, keys: Sequence[Key]) -> None:
        sides = self._sides()
        self._disturbed = False
        before = self._patience.in_flux
        walk = Walk(sides, Report(), lambda *_: None, self._scope)
        looked = self._pairs(sides, keys)
        for pair, some in looked.items():
            walk.keys(pair, some)
        walk.settle()
        if walk.report.findings and (self._disturbed or not self._is_steady()):
            self.sample.again(keys)  # it proves nothing
            return
        self._error = None
        self._compared += walk.report.compared
        self._in_flux += self._patience.in_flux - before
        self._count(walk.report.findings, looked)

    def _pairs(self, sides: Sides, keys: Iterable[Key]) -> dict[Pair, list[bytes]]:
        """Keys by what their databases are compared with; where several go to one, that which has the key."""
        found: dict[Pair, list[bytes]] = {}
        for db, key in keys:
            homes = [home for home in self._scope.sources(db) if sides.source.link.has(home)]
            if len(homes) > 1:
                held = [home for home in homes if sides.source.link.ask(home, pack(EXISTS, key), 1)[0]]
                homes = held or homes
            if homes:
                found.setdefault(Pair(homes[0], db), []).append(key)
        return found

    def _count(self, findings: Sequence[Finding], looked: dict[Pair, list[bytes]]) -> None:
        """Take down what differs, and what does not differ any more."""
        keys = {(pair, key) for pair, some in looked.items() for key in some}
        now: dict[tuple[Pair, bytes, str], Finding] = {(f.pair, f.key, f.kind): f for f in findings if f.pair}
        healed = [one for one in self._named if one[:2] in keys and one not in now]
        for one in healed:
            del self._named[one]
        new = [finding for one, finding in now.items() if one not in self._named]
        for finding in new:
            assert finding.pair is not None
            self._counts[finding.kind] += 1
            if len(self._named) < MOST_NAMED:
                at = datetime.now(UTC).isoformat(timespec="seconds")
                self._named[finding.pair, finding.key, finding.kind] = {**finding.as_dict(), "at": at}
        if new:
            self._again_at = time.monotonic() + AGAIN_S
            more = f" and {len(new) - NAMED} more" if len(new) > NAMED else ""
            self._say("differs", f"written by the stream, and different: {'; '.join(map(_words, new[:NAMED]))}{more}")
        if healed and not self._named:
            self._say("agrees", "what differed of the keys that the stream has written is equal by now")
        if new or healed:
            self._tell()

    def _sides(self) -> Sides:
        """Both servers, asked no faster than the rate of keys takes."""
        if self._opened is None:
            stack, spec = ExitStack(), self._task.spec
            given = verify_limits(spec.verify.limits, 1 + len(self._port.others()))  # each stream of the task has one
            sides = stack.enter_context(opened(*self._ends, spec.extend_expiry_s, spec.verify, self._patience))
            rps = min(float(COMMANDS * spec.verify.keys_per_s), given.rps or float("inf"))
            sides.source.link.pace.limits = sides.target.link.pace.limits = Limits(rps, given.bytes_per_s)
            self._opened = stack, sides
        return self._opened[1]

    def _close(self) -> None:
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None

    # --- what people hear

    def _remember(self) -> None:
        """Once: earlier owners' counts; keys that they have named are looked at again when the stream writes them."""
        if self._remembered:
            return
        if (found := self._port.found_before()) is not None:
            self._compared, self._in_flux = found["compared"], found["in_flux"]
            self._counts.update({kind: found[kind] for kind in KINDS})
        self._remembered = True

    def _tell(self) -> None:
        found = {
            "compared": self._compared,
            **{kind: self._counts[kind] for kind in KINDS},
            "in_flux": self._in_flux,
            "error": self._error,
            "keys": list(self._named.values()),
        }
        self._told_at = time.monotonic()
        if found != self._told:
            self._port.touched(found)
            self._told = found


def _words(finding: Finding) -> str:
    one = finding.as_dict()
    field = "" if one["field"] is None else f" ({one['field']})"
    return f"{one['kind']} db {one['db']} {one['key']}{field}"
