"""The world of one history: who takes part, what time it is, and who acts next; all decided by one seed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from greenlet import GreenletExit, getcurrent, greenlet

if TYPE_CHECKING:
    from tests.simulation.network import Line

FOREVER = float("inf")


class Killed(BaseException):
    """The process that runs this was killed."""


class Party:
    """A thread of a process under test. It runs until it waits for something; meanwhile anything may happen."""

    def __init__(self, world: World, name: str, run: Callable[[], object], process: Process) -> None:
        self.name, self.process, self._world, self._run = name, process, world, run
        self.until: Callable[[], bool] = lambda: True
        self.deadline = FOREVER
        self.greenlet = greenlet(self._main)

    def _main(self) -> None:
        try:
            self._run()
        except (Killed, GreenletExit):
            pass
        except BaseException as error:
            self._world.crashed = self._world.crashed or f"{self.name}: {type(error).__name__}: {error}"

    @property
    def over(self) -> bool:
        return bool(self.greenlet.dead)

    def resume(self) -> None:
        self._world.party = self
        self.greenlet.switch()
        self._world.party = None

    def kill(self) -> None:
        if not self.over:
            self._world.party = self
            with contextlib.suppress(Killed):  # it had not even begun
                self.greenlet.throw(Killed())
            self._world.party = None


class Process:
    """What dies together, and sleeps together."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.parties: list[Party] = []
        self.lines: list[Line] = []
        self.spoken: Line | None = None  # over which it has said something last
        self.paused = self.dead = False

    def spawn(self, name: str, run: Callable[[], object]) -> Party:
        party = Party(self.world, f"{self.name} {name}", run, self)
        self.parties.append(party)
        self.world.parties.append(party)
        return party

    @property
    def over(self) -> bool:
        return self.dead or all(party.over for party in self.parties)

    def die(self) -> None:
        """Its memory is gone; what it has sent is still under way."""
        self.dead = True
        for party in self.parties:
            party.kill()
        for line in self.lines:
            line.close()


class World:
    """Args:
    seed: of all that happens.
    tracing: keep a readable trace.
    """

    def __init__(self, seed: int, tracing: bool = False) -> None:
        self.random = Random(seed)
        self.now = 1000.0
        self.parties: list[Party] = []
        self.lines: list[Line] = []
        self.party: Party | None = None
        self.steps = 0
        self.crashed: str | None = None  # an error that is none of ours
        self._names = itertools.count(1)
        self.trace: list[str] | None = [] if tracing else None
        self._hub = getcurrent()

    def say(self, what: str, *details: object) -> None:
        if self.trace is not None:
            who = self.party.name if self.party else "-"
            self.trace.append(f"{self.steps:5d} {self.now:9.3f} {who:14} {what} {' '.join(map(str, details))}".rstrip())

    def token(self, size: int) -> str:
        """In place of `secrets.token_hex`."""
        return f"{next(self._names):0{2 * size}x}"

    def now_ms(self) -> int:
        return int(self.now * 1000)

    def wait(self, until: Callable[[], bool], timeout_s: float = FOREVER) -> None:
        """Called by who takes part: let others act until something is true, or the time is over."""
        party = self.party
        assert party is not None
        if party.process.dead:
            raise Killed
        party.until, party.deadline = until, self.now + timeout_s
        self._hub.switch()

    def pause(self, seconds: float) -> None:
        self.wait(lambda: False, seconds)

    def runnable(self) -> list[Party]:
        now, found, over = self.now, [], False
        for party in self.parties:
            if party.greenlet.dead:
                over = True
            elif (party.deadline <= now or party.until()) and not party.process.paused:
                found.append(party)
        if over:
            self.parties = [p for p in self.parties if not p.greenlet.dead]
        return found

    def skip(self) -> bool:
        """Nobody can act: go on to the moment when somebody's patience ends."""
        deadlines = [p.deadline for p in self.parties if not p.process.paused]
        if not deadlines or min(deadlines) == FOREVER:
            return False
        self.now = max(self.now, min(deadlines))
        return True

    def close(self) -> None:
        for process in {p.process for p in self.parties}:
            process.die()
