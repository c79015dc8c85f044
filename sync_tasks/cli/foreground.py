"""The foreground command: starts its family, watches the task, ends everything.

The order of the start is that of speed: the broker comes up and both servers are asked while the libraries
are imported; what is needed later starts later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sync_tasks.cli import failures
from sync_tasks.cli.prechecks import Prechecks
from sync_tasks.cli.screen import Screen
from sync_tasks.cli.signals import Interrupted, Signals
from sync_tasks.cli.watch import Watch
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, KeyferryError
from sync_tasks.spec import TaskSpec
from sync_tasks.supervise import broker, process, stdin
from sync_tasks.supervise.children import Children, Role
from sync_tasks.supervise.directory import Directory
from sync_tasks.supervise.outcome import Outcome, Reading, decide
from sync_tasks.supervise.until import Until

if TYPE_CHECKING:
    from sync_tasks.precheck.item import Result
    from sync_tasks.settings import Settings
    from sync_tasks.store import Store

T = TypeVar("T")

LOOK_EVERY_S = 0.2
CALM_LOOK_EVERY_S = 0.45  # while nothing changes; a line of JSON is due twice a second
RELEASE_WITHIN_S = 5.0  # until the stream job has reached a checkpoint after being told to stop


@dataclass(frozen=True, slots=True)
class Request:
    """The command line, read. `secrets`: what no output may show. `piped`: the source comes by standard input."""

    source: Endpoint
    target: Endpoint
    spec: TaskSpec
    scope: dict[int, int] | None
    state: Path
    until: Until
    load_workers: int
    json: bool
    secrets: tuple[str, ...] = ()
    piped: bool = False


SPARE_STREAMS = 2
"""Processes for shards that a cluster gets while we run."""
USUAL_STREAMS = 8
"""Of a cluster that does not answer when we begin."""


def _streams(source: Endpoint) -> int:
    """How many stream jobs there may be at once: one for each shard of a cluster."""
    if not source.is_cluster:
        return 1
    from sync_tasks.topology import shards

    try:
        return len(shards(source)) + SPARE_STREAMS
    except KeyferryError:
        return USUAL_STREAMS


def run(request: Request) -> int:
    """The whole command; its exit code. Errors have been said when it returns."""
    signals = Signals()
    signals.install()
    os.umask(0o077)  # DIR holds the user's data: chunks, log, database
    process.adopt_orphans()
    return Foreground(request, signals).run()


class Foreground:
    """One run. Single-threaded whenever it forks."""

    def __init__(self, request: Request, signals: Signals) -> None:
        self._request = request
        self._signals = signals
        self._directory = Directory(request.state)
        self._children = Children(self._directory, self._before_fork, self._on_death)
        self._screen = Screen(json=request.json, secrets=request.secrets, where=self._directory.path)
        self._prechecks = Prechecks(self._precheck, self._screen.checking, self._pause)
        self._store: Store | None = None
        self._watch: Watch | None = None  # once there is a task
        self._found: list[Result] = []  # of the precheck
        self._decided: Reading | None = None  # on which `until` was found to be fulfilled

    def run(self) -> int:
        """Begin, watch, end; the exit code."""
        outcome = self._caught(lambda: self._look_on(self._begin()))
        if self._watch is not None:
            self._caught(self._stop)
        self._children.kill()
        self._directory.close()
        said = self._caught(lambda: self._say(outcome))
        return outcome.code or (said.code if said else 0)

    def _caught(self, step: Callable[[], T]) -> T | Outcome:
        """What `step` returns; whatever it raises, as the outcome that it means."""
        try:
            return step()
        except Interrupted as stop:
            return Outcome(stop.exit_code)
        except BrokenPipeError:
            failures.silence_stdout()
            return Outcome(failures.PIPE_CLOSED)
        except Exception as error:  # noqa: BLE001 - the last net: a traceback goes to the log alone
            found = failures.explained(error, self._request.secrets, self._directory.logs / "keyferry.log")
            return Outcome(found.exit_code, found)

    def _begin(self) -> dict[int, int]:
        """Start everything. The epochs of the nodes as they were before this run's jobs took them."""
        self._directory.open(self._pause)
        self._screen.open()
        if self._request.piped:
            stdin.spool(self._request.source, self._pause)
        path = broker.binary()
        self._children.start(Role("broker", broker.runner(self._directory, path)))

        from sync_tasks.supervise import roles

        settings = self._settings()
        if not (self._directory.path / "keyferry.db").exists():  # else it may be no first start
            self._prechecks.begin()
        roles.preload(self._prechecks.tend)
        broker.wait_ready(self._directory, self._children.tend)
        self._pause(0.0)
        self._prechecks.finish()
        # It gets ready while the task is opened; without a scheduler nobody gives it work.
        self._children.start(roles.stream_worker(settings, _streams(self._request.source)))
        store = self._open_store(settings)
        task_id = self._open_task(store)
        store.record_precheck(task_id, self._found, ignored_by="keyferry sync")
        for result in self._found:
            if result.finding == "warning":
                failures.say(f"warning: {result.found}: {result.repair}", self._request.secrets)
        self._watch = Watch(store, task_id, self._directory)
        before = {node.id: node.epoch for node in store.nodes(task_id)}
        self._pause(0.0)
        self._children.start(roles.scheduler(settings))
        self._children.start(roles.load_worker(settings, self._request.load_workers))
        return before

    def _settings(self) -> Settings:
        """Of this run alone: nothing of the environment may lead it out of DIR; the key dies with us."""
        from pydantic import SecretStr

        from sync_tasks.secrets import new_key
        from sync_tasks.settings import Settings

        return Settings(
            state_dir=self._directory.path,
            database_url=None,
            broker_url=f"redis+socket://{self._directory.socket()}",
            secret_key=SecretStr(new_key().decode()),
            spool_dir=None,
            spool_url=None,
            spool_encrypt=False,  # the key would die with us, and what it sealed be lost
            spool_shared=True,  # all workers of the run see DIR
            host=None,
        )

    def _open_store(self, settings: Settings) -> Store:
        from sync_tasks.secrets import SecretBox
        from sync_tasks.store import Store, migrate

        migrate(settings.database())
        self._store = Store(settings.database(), SecretBox(settings.key()))
        return self._store

    def _precheck(self, pause: Callable[[float], None]) -> None:
        from sync_tasks.precheck.run import ask, first_error
        from sync_tasks.precheck.scene import Scene

        request = self._request
        spool = self._directory.path / "spool"
        self._found = ask(Scene(request.source, request.target, request.spec, request.scope, spool), pause, hasty=True)
        if (error := first_error(self._found)) is not None:
            raise error

    def _open_task(self, store: Store) -> int:
        from sync_tasks.supervise.opening import Wanted, open_task

        # Who has the directory's lock knows that every owner is dead.
        store.release_all()
        request = self._request
        wanted = Wanted(request.source, request.target, request.spec, request.scope)
        return open_task(store, wanted, self._prechecks.make).id

    def _look_on(self, before: dict[int, int]) -> Outcome:
        """Watch until there is an outcome. `before`: as `_begin` returns it."""
        assert self._watch is not None
        while True:
            self._children.tend()
            former, reading = self._watch.last, self._watch.look()
            outcome = decide(reading, self._request.until, before) or self._watch.out_of_room(reading)
            self._screen.show(reading, now=outcome is not None)
            if outcome is not None:
                self._decided = reading if outcome.code == 0 else None
                return outcome
            if self._signals.stops:
                return Outcome(self._signals.exit_code)
            self._signals.wait(CALM_LOOK_EVERY_S if reading == former else LOOK_EVERY_S)

    def _stop(self) -> None:
        """Let the stream job reach a checkpoint, then end the children. A further signal: at once."""
        store, watch, stops = self._store, self._watch, self._signals.stops
        assert store is not None
        assert watch is not None
        try:
            store.stop(watch.task_id)
            deadline = time.monotonic() + RELEASE_WITHIN_S
            while store.owned(watch.task_id) and time.monotonic() < deadline and self._signals.stops == stops:
                self._children.tend()
                self._screen.show(watch.look())
                self._signals.wait(0.05)
            store.suspend(watch.task_id)
        finally:
            self._children.stop(lambda seconds: self._impatient(watch, seconds, stops))
        watch.look()
        store.dispose()

    def _impatient(self, watch: Watch, seconds: float, stops: int) -> bool:
        if watch.last is not None:
            self._screen.show(watch.last)
        self._signals.wait(seconds)
        return self._signals.stops > stops

    def _say(self, outcome: Outcome) -> None:
        """The last line or summary; the error or how to go on."""
        reading = self._watch.last if self._watch is not None else None
        if self._decided is not None and reading is not None:
            # The stop has moved what was tested: the test has the last word on it, the store on the task.
            reading = dataclasses.replace(self._decided, task=reading.task)
        self._screen.end(reading, outcome)

    def _pause(self, seconds: float) -> None:
        self._signals.wait(seconds)
        self._signals.check()

    def _before_fork(self) -> None:
        if self._store is not None:
            self._store.dispose()

    def _on_death(self, pid: int) -> None:
        """Known to be dead: what it held need not wait until the scheduler has noticed."""
        if self._store is not None:
            with contextlib.suppress(ControlError):
                self._store.release_owner(f"{socket.gethostname()}:{pid}:")
