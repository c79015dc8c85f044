"""The processes under test: an owner of the stream with its receiver and its applier, and a loader of one chunk."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sync_tasks.errors import Fenced, KeyferryError, Side
from tests.simulation.control import TASK, UID, ChunkPort, Control, StreamPort
from tests.simulation.network import ModelSocket, Peer
from tests.simulation.source import Questions, Source
from tests.simulation.world import FOREVER, Process, World
from workers.apply import Applier
from workers.fence import fence
from workers.full import load_chunk
from workers.gates import Gates
from workers.receive import Receiver
from workers.scope import Scope
from workers.spool.known import Known
from workers.spool.log import Log

TICK_S = 0.5


class Place:
    """An address, as far as those who connect there look at it."""

    side = Side.TARGET
    slot = None  # it is no cluster

    def __init__(self, world: World, name: str, connect: Callable[[], Peer]) -> None:
        self.world, self.name, self.connect = world, name, connect
        self.away: Callable[[], bool] = lambda: False

    def now(self) -> Place:
        return self

    def address(self) -> str:
        return self.name

    def open_socket(self, timeout: float) -> ModelSocket:
        return ModelSocket(self)

    def auth_commands(self) -> list[tuple[bytes, ...]]:
        return []


class Event:
    """In place of `threading.Event`."""

    def __init__(self, world: World) -> None:
        self._world, self._on = world, False

    def is_set(self) -> bool:
        return self._on

    def set(self) -> None:
        self._on = True

    def clear(self) -> None:
        self._on = False

    def wait(self, timeout: float = FOREVER) -> bool:
        if not self._on:
            self._world.wait(self.is_set, timeout)
        return self._on


class Lock:
    """In place of `threading.Lock`."""

    def __init__(self, world: World) -> None:
        self._world, self._taken = world, False

    def __enter__(self) -> None:
        self._world.wait(lambda: not self._taken)
        self._taken = True

    def __exit__(self, *_: object) -> None:
        self._taken = False


class ModelLog(Log):
    """A log whose readers wait as the world says."""

    world: World

    def wait(self, offset: int, timeout_s: float) -> bool:
        begun = self._woken
        self.world.wait(lambda: (self.end or 0) > offset or self._woken != begun, timeout_s)
        return (self.end or 0) > offset


class Owner(Process):
    """A stream worker, as `workers.stream.StreamJob` sets it up.

    Args:
        spool: directory of its log and its snapshots.
    """

    def __init__(
        self, world: World, name: str, port: StreamPort, places: tuple[Place, Place], source: Source, spool: Path
    ) -> None:
        super().__init__(world, name)
        self.port = port
        self.control: Control = port.control
        at_source, at_target = places
        if port.moved:
            shutil.rmtree(spool, ignore_errors=True)
            port.moved_in()
        self.log = ModelLog(spool / "log", port.epoch)
        self.log.world = world
        target: Any = at_target
        questions: Any = Questions(source)
        known = Known(spool / "known", UID, port.epoch)
        if not port.node().gen and not port.node().begun:
            known.create()
        self.applier = Applier(target, port, self.log, questions, spool, Scope(None), 0, known)
        self.applier.stop_event = Event(world)  # type: ignore[assignment]
        self.applier.loaded = Event(world)  # type: ignore[assignment]
        self.applier.clock.now_ms = world.now_ms
        border: Any = Lock(world)
        self.applier.border = border
        gates = Gates(target, UID, 0, 0)
        here: Any = at_source
        self.receiver = Receiver(
            here, port, self.log, spool, questions, lambda: self.applier.progress.committed, gates.close_earlier,
            self.applier.checkpoint, border, self.applier.reopen, known, gates.number,
        )  # fmt: skip
        self.receiver.stop_event = Event(world)  # type: ignore[assignment]
        self.threads = [self.spawn("receiver", self.receiver.run), self.spawn("applier", self.applier.run)]
        self.spawn("job", self._job)

    def _job(self) -> None:
        try:
            while self._tick():
                self.world.pause(TICK_S)
        except Fenced:
            pass
        self.receiver.stop_event.set()
        self.applier.stop_event.set()
        self.applier.loaded.set()
        self.log.wake()
        self.world.wait(lambda: all(thread.over for thread in self.threads), 60.0)
        self._end()

    def _tick(self) -> bool:
        orders = self.port.renew()
        if self.receiver.error is not None or self.applier.error is not None or self.applier.closed_at is not None:
            return False
        if orders.finishing:
            self.applier.finishing.set()
        if not self.applier.progress.streaming:
            self._load()
        return True

    def _load(self) -> None:
        node = self.port.node()
        if not node.snapshot_done:
            return
        state = self.port.load_state(node.gen)
        if state.done == state.chunks:
            self.applier.loaded.set()
        else:
            self.applier.loaded.clear()

    def _end(self) -> None:
        with contextlib.suppress(Fenced):
            if self.applier.closed_at is not None:
                self.port.finished()
            else:
                self._say_why()
            if self.port.holds():
                self.control.give_away()

    def _say_why(self) -> None:
        for error in (self.receiver.error, self.applier.error):
            if isinstance(error, KeyferryError):
                self.world.say("ends:", error.line())
                self.port.fail(error)
            elif error is not None:
                raise error


class Operator(Process):
    """Somebody who ends the task on its target, and tries again until it is done.

    Args:
        done: called then.
    """

    def __init__(self, world: World, control: Control, target: Any, done: Callable[[], None]) -> None:
        super().__init__(world, "operator")
        self.control, self._target, self._done = control, target, done
        self.spawn("fence", self._fence)

    def _fence(self) -> None:
        while True:
            try:
                fence(self._target, TASK, [self.control.node], 0)
            except KeyferryError as error:
                self.world.say("failed:", error.line())
                self.world.pause(TICK_S)
            else:
                self._done()
                return


class Loader(Process):
    """A load worker with one chunk."""

    def __init__(self, world: World, name: str, port: ChunkPort, target: Any) -> None:
        super().__init__(world, name)
        self.port, self._target = port, target
        self.error: BaseException | None = None
        self.spawn("load", self._load)

    def _load(self) -> None:
        try:
            load_chunk(self.port, self._target, 0, self.port.chunk.db)
        except Fenced as error:
            self.world.say("fenced:", error.line())
        except KeyferryError as error:
            self.world.say("failed:", error.line())
            self.error = error
            self.port.failed()
