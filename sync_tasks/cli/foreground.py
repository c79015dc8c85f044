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
from sync_tasks.cli.display import Display, choose
from sync_tasks.cli.signals import Interrupted, Signals
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, Retry
from sync_tasks.spec import TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.supervise import broker, process
from sync_tasks.supervise.children import Children, Role
from sync_tasks.supervise.directory import Directory
from sync_tasks.supervise.outcome import Outcome, Reading, decide
from sync_tasks.supervise.until import Until

if TYPE_CHECKING:
    from sync_tasks.precheck import Asked
    from sync_tasks.settings import Settings
    from sync_tasks.store import Store

T = TypeVar("T")

LOOK_EVERY_S = 0.2
RELEASE_WITHIN_S = 5.0  # until the stream job has reached a checkpoint after being told to stop


@dataclass(frozen=True, slots=True)
class Request:
    """The command line, read. `secrets`: what no output may show."""

    source: Endpoint
    target: Endpoint
    spec: TaskSpec
    scope: dict[int, int] | None
    state: Path
    until: Until
    load_workers: int
    json: bool
    secrets: tuple[str, ...] = ()


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
        self._display: Display | None = None
        self._store: Store | None = None
        self._task_id = 0
        self._reading: Reading | None = None
        self._decided: Reading | None = None  # on which `until` was found to be fulfilled
        self._shown = float("-inf")
        self._full_since: float | None = None

    def run(self) -> int:
        """Begin, watch, end; the exit code."""
        outcome = self._caught(self._begin_and_watch)
        if self._task_id:
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

    def _begin_and_watch(self) -> Outcome:
        before = self._begin()
        return self._watch(before)

    def _begin(self) -> dict[int, int]:
        """Start everything. The epochs of the nodes as they were before this run's jobs took them."""
        request = self._request
        self._directory.open(self._pause)
        self._display = choose(json=request.json)
        path = broker.binary()
        self._children.start(Role("broker", broker.runner(self._directory, path)))

        from sync_tasks.supervise import roles

        settings = self._settings()
        checking = self._check_early()
        roles.preload(lambda: self._give_up_if_failed(checking))
        broker.wait_ready(self._directory, self._children.tend)
        self._pause(0.0)
        if checking is not None:
            self._wait_for(checking)
        # It gets ready while the task is opened; without a scheduler nobody gives it work.
        self._children.start(roles.stream_worker(settings))
        store = self._open_store(settings)
        self._task_id = self._open_task(store, checked=checking is not None)
        before = {node.id: node.epoch for node in store.nodes(self._task_id)}
        self._pause(0.0)
        self._children.start(roles.scheduler(settings))
        self._children.start(roles.load_worker(settings, request.load_workers))
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
        )

    def _open_store(self, settings: Settings) -> Store:
        from sync_tasks.secrets import SecretBox
        from sync_tasks.store import Store, migrate

        migrate(settings.database())
        self._store = Store(settings.database(), SecretBox(settings.key()))
        return self._store

    def _check_early(self) -> Asked | None:
        """Ask both servers while we import, when no database says that this is no first start."""
        if (self._directory.path / "keyferry.db").exists():
            return None
        # All it needs is imported before the thread starts: two threads importing in circles may see half a module.
        import redis.backoff
        import redis.retry  # noqa: F401

        from sync_tasks.precheck import Asked

        checking = Asked(lambda: self._precheck(lambda _seconds: None))
        checking.start()
        return checking

    def _precheck(self, pause: Callable[[float], None]) -> None:
        from sync_tasks.precheck import check

        request = self._request
        check(request.scope, request.spec.conflict_mode, request.source, request.target, pause)

    def _give_up_if_failed(self, checking: Asked | None) -> None:
        self._show_checking(0.0) if checking is not None else self._pause(0.0)
        if checking is not None and checking.error is not None:
            raise checking.error

    def _wait_for(self, checking: Asked) -> None:
        """Until both servers have answered. No thread is left then, so that forking is safe."""
        while checking.is_alive():
            self._give_up_if_failed(checking)
            checking.join(0.01)
        self._give_up_if_failed(checking)

    def _open_task(self, store: Store, *, checked: bool) -> int:
        from sync_tasks.supervise.opening import Wanted, open_task
        from sync_tasks.supervise.reading import release_all

        release_all(store)
        request = self._request
        wanted = Wanted(request.source, request.target, request.spec, request.scope)
        return open_task(store, wanted, lambda: None if checked else self._precheck(self._show_checking)).id

    def _watch(self, before: dict[int, int]) -> Outcome:
        while True:
            self._children.tend()
            reading = self._look()
            outcome = decide(reading, self._request.until, before) or self._out_of_room(reading)
            self._show(reading, now=outcome is not None)
            if outcome is not None:
                self._decided = reading if outcome.code == 0 else None
                return outcome
            if self._signals.stops:
                return Outcome(self._signals.exit_code)
            self._signals.wait(LOOK_EVERY_S)

    def _look(self) -> Reading:
        """Read the store; while it cannot be read for a reason that heals, the last reading."""
        from sync_tasks.supervise.reading import read

        assert self._store is not None
        full = self._directory.is_full()
        try:
            reading = read(self._store, self._task_id)
        except ControlError as error:
            if error.retry is Retry.FATAL or self._reading is None:
                raise
            reading = self._reading
        self._reading = dataclasses.replace(reading, disk_full=full)
        return self._reading

    def _out_of_room(self, reading: Reading) -> Outcome | None:
        """A disk so full that not even the retry window could be recorded: its time is kept here."""
        if not reading.disk_full or reading.retries:
            self._full_since = None
            return None
        now = time.monotonic()
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since < reading.task.other_min * 60:
            return None
        error = failures.disk_full(f" at {self._directory.path}")
        return Outcome(error.exit_code, error)

    def _stop(self) -> None:
        """Let the stream job reach a checkpoint, then end the children. A further signal: at once."""
        from sync_tasks.supervise.reading import owned, suspend

        store, stops = self._store, self._signals.stops
        assert store is not None
        try:
            store.stop(self._task_id)
            deadline = time.monotonic() + RELEASE_WITHIN_S
            while owned(store, self._task_id) and time.monotonic() < deadline and self._signals.stops == stops:
                self._children.tend()
                self._show(self._look())
                self._signals.wait(0.05)
            suspend(store, self._task_id)
        finally:
            self._children.stop(lambda seconds: self._impatient(seconds, stops))
        self._look()
        store.dispose()

    def _impatient(self, seconds: float, stops: int) -> bool:
        if self._reading is not None:
            self._show(self._reading)
        self._signals.wait(seconds)
        return self._signals.stops > stops

    def _show(self, reading: Reading, *, now: bool = False) -> None:
        time_now = time.monotonic()
        if self._display is not None and (now or time_now - self._shown >= self._display.every_s):
            self._shown = time_now
            self._display.show(reading)

    def _show_checking(self, seconds: float) -> None:
        """While both servers are asked."""
        time_now = time.monotonic()
        if self._display is not None and time_now - self._shown >= self._display.every_s:
            self._shown = time_now
            self._display.starting(TaskState.PRECHECKING)
        self._pause(seconds)

    def _say(self, outcome: Outcome) -> None:
        """The last line or summary; the error or how to go on."""
        request = self._request
        reading = self._reading
        if self._decided is not None and reading is not None:
            # The stop has moved what was tested: the test has the last word on it, the store on the task.
            reading = dataclasses.replace(self._decided, task=reading.task)
        display = self._display or (choose(json=True) if request.json else None)
        try:
            if display is not None:
                display.end(reading, outcome)
        finally:
            if outcome.error is not None:
                failures.complain(outcome.error, request.secrets)
            elif outcome.code and reading is not None:
                where = self._directory.path
                failures.say(f"stopped at a checkpoint; to go on, run the same command again (state in {where})", ())

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
