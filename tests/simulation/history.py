"""One history: a seed decides who acts next and what goes wrong, and at the end all must be right."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sync_tasks.names import token_key
from sync_tasks.states import ChunkState
from tests.simulation.control import UID, Control
from tests.simulation.faults import Faults
from tests.simulation.network import Line
from tests.simulation.oracle import CK, Failure, Oracle, checkpoint, differences, whole
from tests.simulation.owner import Loader, Operator, Owner, Place
from tests.simulation.plan import Plan, plan
from tests.simulation.server import Server
from tests.simulation.source import Source
from tests.simulation.world import Party, Process, World
from workers.spool.known import Known
from workers.target.claim import STREAMING, Checkpoint

Event = tuple[Callable[[Any], object], Any]
"""What happens, and to whom."""
MOST_STEPS = 20_000
PING_S = 2.0
"""A source says PING this often: so a follower that is idle notices sooner or later that its target fell back."""


@dataclass(slots=True)
class Outcome:
    """How a history ended: `exact`, or `stopped` with the reason, which was a good one."""

    seed: int
    end: str = "exact"
    faults: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    windows: int = 0
    writes: int = 0


class History:
    """Args:
    seed: of everything.
    directory: for its spool; removed at the end.
    focus: as `plan` takes it.
    tracing: keep a readable trace in `world.trace`.
    """

    def __init__(self, seed: int, directory: Path, focus: str | None = None, tracing: bool = False) -> None:
        self.world = World(seed, tracing)
        self.random = self.world.random
        self.plan: Plan = plan(self.random, focus)
        self.directory = directory
        self.outcome = Outcome(seed)
        self.oracle = Oracle()
        self.target = Server(self.world.now_ms, self.oracle.see)
        self.source = Source(self.random)
        self.control = Control(self.world)
        self.processes: list[Process] = []
        self.places = (
            Place(self.world, "source", self.source.connect),
            Place(self.world, "target", self.target.connect),
        )
        self.faults = Faults(self)
        self.quiet = False
        self.kept: list[dict[bytes, Any]] | None = None  # what the target had when the task was fenced off
        self._operator: Operator | None = None
        self._ping_at = self.world.now + PING_S
        self._writes = self.plan.writes
        self._count = 0

    def run(self) -> Outcome:
        """Raises Failure."""
        try:
            self._begin()
            while not self._is_over():
                self._step()
            self._check()
        finally:
            self.world.close()
            shutil.rmtree(self.directory, ignore_errors=True)
        self.outcome.steps, self.outcome.windows = self.world.steps, self.oracle.windows
        return self.outcome

    # --- the beginning

    def _begin(self) -> None:
        for _ in range(self.plan.before):
            self.source.write()
        if not self.plan.loads:
            self._stream_already()

    def _stream_already(self) -> None:
        """The load is over: what its first window has left on the target."""
        self.control.node = replace(
            self.control.node, fresh=False, begun=True, snapshot_done=True, gen=1, replid=self.source.replid,
            snapshot_offset=0,
        )  # fmt: skip
        point = Checkpoint(self.source.replid, 0, 0, 0, "", 0, STREAMING, 1, False, 0, 1, 1)
        tok = token_key(UID, 0, "first")
        client = self.target.connect()
        client.execute([b"HSET", CK, *point.fields(), b"windows", b"1", b"tok", tok])
        client.execute([b"HSET", tok, b"1", b"1"])
        self.target.data.units.clear()
        known = Known(self.directory / "0" / "known", UID, 0)
        known.create()
        known.begin(0, 0)
        known.add(1, [])

    # --- who acts

    def _step(self) -> None:
        world, random = self.world, self.random
        world.steps += 1
        if world.steps > MOST_STEPS:
            raise Failure("it does not come to an end")
        if world.crashed:
            raise Failure(world.crashed)
        if self.oracle.broken:
            raise Failure(self.oracle.broken)
        if not self.quiet:
            if self._writes == 0 and self.faults.left == 0:
                self._calm_down()
            elif random.random() < self.faults.density:
                self.faults.strike()
                return
        if world.now >= self._ping_at:
            self._ping_at = world.now + PING_S
            self.source.ping()
        events = self._events()
        if events:
            act, what = random.choice(events)
            act(what)
        elif not self.quiet and random.random() < 0.3:
            self.faults.strike()  # everybody waits: it is the fault's turn
        elif not self.quiet and not self._writes and not world.skip():
            self._calm_down()
        elif not world.skip() and not self.faults.mend() and not self._is_done():
            raise Failure("nobody can act any more")

    def _calm_down(self) -> None:
        """No more goes wrong: now everything must come to its end."""
        self.quiet = True
        self.faults.mend()
        self.control.finishing = self.plan.finishing
        self.world.say("quiet from now on")

    def _events(self) -> list[Event]:
        """What can happen next."""
        random, quiet, control = self.random, self.quiet, self.control
        events: list[Event] = [(self._resume, party) for party in self.world.runnable()]
        for line in self.world.lines:
            late = line.cut or line.closed
            held = line.late_chance if late or line.process.paused else 0.15 if line.slow else 1.0
            if line.up and (quiet or random.random() < held):
                events.append((self._deliver, line))
            if late:
                continue
            if line.down:
                events.append((self._answer, line))
            if line.follows and line.peer.behind:
                events.append((self._stream, line))
        kept = 0 if control.node.begun else self.plan.writes // 2
        if self._writes > kept and random.random() < self.plan.haste:
            events.append((History._write, self))
        if control.released:
            if self.kept is None and (self._operator is None or self._operator.over):
                events.append((History._fence, self))
            return events
        if self.plan.release and self._writes <= self.plan.writes // 2 and random.random() < 0.02:
            events.append((History._release, self))
        if not control.held and control.failed is None and not control.finished:
            events.append((History._start_owner, self))
        if control.rows and control.ready():
            events.append((History._start_loader, self))
        return events

    def _some(self, most: int) -> int:
        """All, or a part of what is under way."""
        return most if self.random.random() < 0.7 else self.random.randint(1, most)

    def _resume(self, party: Party) -> None:
        """It acts; often what it says arrives at once, and so does the answer: that saves choosing."""
        party.resume()
        line = party.process.spoken
        if line is not None and line.up and not line.slow and not line.late and self.random.random() < 0.6:
            self._deliver(line)

    def _deliver(self, line: Line) -> None:
        if self.faults.flicker(line):
            return
        size = self._some(len(line.up))
        self.world.say("delivered", line.name, size, "late" if line.late else "")
        line.deliver(size)
        if line.down and self.random.random() < 0.6:
            self._answer(line)

    def _answer(self, line: Line) -> None:
        if line.follows and self.faults.break_off(line):
            return
        line.answer(self._some(len(line.down)))
        reader = line.reader
        waits = reader is not None and reader.until == line.heard and not reader.process.paused
        if reader is not None and waits and self.random.random() < 0.6:
            self._resume(reader)

    def _stream(self, line: Line) -> None:
        line.down += line.peer.more(self._some(line.peer.behind))
        if self.random.random() < 0.6:
            self._answer(line)

    def _write(self) -> None:
        self._writes -= 1
        self.outcome.writes += 1
        before = self.source.end
        self.source.write(self.plan.whole)
        self.world.say("source writes", bytes(self.source.stream[before:]))

    def _start_owner(self) -> None:
        self._count += 1
        spool = self.faults.spool()
        port = self.control.claim(spool)
        name = f"owner{self._count}"
        self.world.say("starts", name, "epoch", port.epoch)
        self.processes.append(
            Owner(self.world, name, port, self.places, self.source, self.directory / str(spool))
        )

    def _start_loader(self) -> None:
        self._count += 1
        chunk = self.random.choice(self.control.ready())
        name = f"loader{self._count}"
        self.world.say("starts", name, "chunk", chunk.id)
        self.processes.append(Loader(self.world, name, self.control.load(chunk), self.places[1]))

    def _release(self) -> None:
        """Nobody gets any more work of this task; who has some may not know."""
        self.control.released = True
        self.control.give_away()
        for chunk in self.control.rows:
            self.control.put(chunk, state=ChunkState.VOID)
        self._writes = 0
        self.world.say("the task is to be fenced off")

    def _fence(self) -> None:
        self._operator = Operator(self.world, self.control, self.places[1], self._is_fenced)
        self.processes.append(self._operator)

    def _is_fenced(self) -> None:
        self.kept = deepcopy(self.target.data.contents())
        self.faults.left = 0
        self.world.say("the task is fenced off")

    # --- the end

    def _is_over(self) -> bool:
        if self.control.failed is not None:
            return True
        return self.quiet and self.world.steps % 4 == 0 and self._is_done()

    def _is_done(self) -> bool:
        """Whether the target has everything, and nothing is under way that could change it."""
        if any(line.cut or line.closed for line in self.world.lines):
            return False
        if any(isinstance(process, Loader) and not process.over for process in self.processes):
            return False
        if self.control.released:
            return self.kept is not None and all(process.over for process in self.processes)
        if self.plan.finishing:
            return self.control.finished
        found = checkpoint(self.target)
        here = found.get(b"state") == b"streaming" and found[b"replid"].decode() == self.source.replid
        return here and int(found[b"offset"]) == self.source.end

    def _check(self) -> None:
        if self.oracle.broken and not self.faults.holes():
            raise Failure(self.oracle.broken)
        if self.control.released:
            assert self.kept is not None
            self.outcome.end = "fenced off"
            if found := differences(self.target.data.contents(), self.kept):
                raise Failure(f"written behind the fence: {'; '.join(found)}")
            return
        failed = self.control.failed
        if failed is not None:
            self.outcome.end = self.faults.excuse(failed.message)
            return
        found = differences(self.target.data.contents(), self.source.data())
        if found and whole(self.target):
            raise Failure("; ".join(found))
        if not whole(self.target):
            if not self.faults.holes():
                raise Failure("the count of windows is wrong, though none was refused")
            self.outcome.end = "stopped: the next claim finds that a refused window is missing"


def trace(seed: int, directory: Path, focus: str | None, begin: Callable[[History], None]) -> str:
    """Of a history that is run again; `begin` is told of it."""
    history = History(seed, directory, focus, tracing=True)
    begin(history)
    try:
        history.run()
    except Exception as error:
        history.world.say("failed:", error)
    return "\n".join(history.world.trace or [])
