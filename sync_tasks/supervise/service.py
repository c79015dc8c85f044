"""The service on one machine: broker, workers, scheduler, Flower and metrics as children, until somebody says stop."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

from sync_tasks.errors import ControlError
from sync_tasks.settings import Settings
from sync_tasks.supervise import broker, flower, metrics
from sync_tasks.supervise.children import Children, Role
from sync_tasks.supervise.directory import Directory
from sync_tasks.supervise.draining import Idle, free_dead, owner_prefix
from sync_tasks.supervise.installation import check_database, whole
from sync_tasks.supervise.ready import Ready

if TYPE_CHECKING:
    from sync_tasks.store import Store

WORKERS = ("stream worker", "load worker")
LOOK_EVERY_S = 1.0  # a signal or a child's death wakes it at once
SAY_EVERY_S = 10.0  # what a start still waits for
STOP_WITHIN_S = 10.0  # until streams have reached a checkpoint and chunks are loaded; then the next owner goes on


class Stops(Protocol):
    """What the user asks for by signals."""

    stops: int

    @property
    def exit_code(self) -> int: ...

    def check(self) -> None: ...

    def wait(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what: processes that load, source nodes that can be followed at once, whether Flower runs. Metrics
    are served if `Settings.metrics_port` is set."""

    load: int = 2
    stream: int = 10
    flower: bool = False


class Service:
    """One run. Single-threaded whenever it forks.

    Args:
        settings: of the installation.
        plan: what to start.
        signals: the user's.
        say: takes a line for the user.
    """

    def __init__(self, settings: Settings, plan: Plan, signals: Stops, say: Callable[[str], None]) -> None:
        self._given = settings
        self._plan = plan
        self._signals = signals
        self._say = say
        self._directory = Directory(settings.state_dir)
        self._children = Children(self._directory, self._before_fork, self._on_death)
        self._ready = Ready()
        self._store: Store | None = None
        self._settings = settings

    def run(self) -> int:
        """Start, tend, stop; the exit code of the signal that ended it.

        Raises:
            ControlError: it cannot start, or a child ends each time it is started. No process is left then either.
        """
        try:
            self._directory.open(self._pause)
            sockets, scraped = self._flower_sockets(), self._metrics_socket()
            self._start(sockets, scraped)
            self._wait_ready(sockets, scraped)
            while not self._signals.stops:
                self._children.tend()
                self._signals.wait(LOOK_EVERY_S)
            self._stop()
        finally:
            self._children.kill()
            self._directory.close()
            if self._store is not None:
                self._store.dispose()
        return self._signals.exit_code

    def _flower_sockets(self) -> list[socket.socket]:
        if not self._plan.flower:
            return []
        flower.check()
        return flower.listen(self._given.flower_address, self._given.flower_port)

    def _metrics_socket(self) -> socket.socket | None:
        port = self._given.metrics_port
        return None if port is None else metrics.listen(self._given, port)

    def _start(self, sockets: list[socket.socket], scraped: socket.socket | None) -> None:
        """Everything; what is imported first is shared by all."""
        if self._given.broker_url is None:
            self._children.start(Role("broker", broker.runner(self._directory, broker.binary())))
        settings = self._settings = whole(self._given, self._directory)

        from sync_tasks.supervise import roles
        from sync_tasks.supervise.worker import Manner

        roles.preload(self._signals.check)
        if self._given.broker_url is None:
            broker.wait_ready(self._directory, self._children.tend)
        else:
            from sync_tasks.supervise import reach

            reach.at_start(settings, self._say)
        self._open_store()
        manners = {
            name: Manner(tag=self._tag(), beats=True, drains=True, ready=self._ready.teller(name)) for name in WORKERS
        }
        plan = self._plan
        self._children.start(
            roles.stream_worker(settings, plan.stream, manners["stream worker"], patience_s=STOP_WITHIN_S)
        )
        self._children.start(roles.load_worker(settings, plan.load, manners["load worker"], patience_s=STOP_WITHIN_S))
        self._children.start(roles.scheduler(settings))
        if sockets:
            from sync_tasks.keyfile import flower_password

            password = flower_password(settings)
            self._children.start(roles.flower(settings, password, sockets, self._ready.teller("flower")))
        if scraped is not None:
            self._children.start(roles.metrics(settings, scraped, self._ready.teller("metrics")))

    def _tag(self) -> str:
        """Parts our nodes from those of another state directory on this machine, where both share a broker."""
        if self._given.broker_url is None:
            return ""
        return "-" + blake2b(os.fsencode(self._directory.path), digest_size=3).hexdigest()

    def _open_store(self) -> None:
        from sync_tasks.store import Store, migrate

        if self._given.database_url is None:
            migrate(self._settings.database())
        else:
            check_database(self._settings.database())
        self._store = Store.of(self._settings)
        free_dead(self._store, self._settings.hostname)

    def _wait_ready(self, sockets: list[socket.socket], scraped: socket.socket | None) -> None:
        """Say once that all is there; before that, now and then what is not."""
        wanted = {*WORKERS, *(["flower"] if sockets else []), *(["metrics"] if scraped else [])}
        said = time.monotonic()
        while missing := wanted - self._ready.told():
            self._children.tend()
            self._pause(0.05)
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                self._say(f"still waiting for: {', '.join(sorted(missing))} (logs in {self._directory.logs})")
        plan, where = self._plan, self._directory.path
        parts = [f"up: {plan.load} load and {plan.stream} stream processes", "scheduler", f"state in {where}"]
        if sockets:
            parts.append(
                f"Flower at {flower.url(sockets)}, user {self._given.flower_user}, password {self._password()}"
            )
        if scraped is not None:
            parts.append(f"metrics at {metrics.url(scraped)}")
        self._say("; ".join([*parts, "Ctrl-C stops"]))

    def _password(self) -> str:
        from sync_tasks.keyfile import FLOWER_FILE

        return f"in {self._directory.path / FLOWER_FILE}" if self._given.flower_password is None else "as set"

    def _stop(self) -> None:
        """The scheduler first, so that nothing new comes; then the workers, then who watched. Twice asked: at once."""
        stops = self._signals.stops

        def wait(seconds: float) -> bool:
            self._signals.wait(seconds)
            return self._signals.stops > stops

        pids = [pid for name, pid in self._children.pids().items() if name in WORKERS]
        if self._children.end(["scheduler"], wait):
            return
        if self._children.end(WORKERS, wait, Idle(lambda: self._held(pids))):
            return
        self._children.end(["flower", "metrics"], wait)
        for pid in pids:
            self._release(pid)

    def _held(self, pids: list[int]) -> bool:
        """Whether these workers still have a stream or chunk; what cannot be known counts as yes."""
        assert self._store is not None
        try:
            return any(self._store.owners(owner_prefix(self._settings, pid)) for pid in pids)
        except ControlError:
            return True

    def _release(self, pid: int) -> None:
        """Known to be dead: what it held need not wait until the scheduler has noticed."""
        if self._store is not None:
            with contextlib.suppress(ControlError):
                self._store.release_owner(owner_prefix(self._settings, pid))

    def _before_fork(self) -> None:
        if self._store is not None:
            self._store.dispose()

    def _on_death(self, pid: int) -> None:
        self._release(pid)

    def _pause(self, seconds: float) -> None:
        self._signals.wait(seconds)
        self._signals.check()
