"""`keyferry demo`: two embedded servers, live traffic, the real `keyferry sync` between them, a verdict."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sync_tasks.errors import ControlError
from sync_tasks.supervise import broker, process
from sync_tasks.supervise.directory import SOCKET_LIMIT

if TYPE_CHECKING:
    from sync_tasks.supervise.outcome import Reading

EXAMPLES = """
Show it: two embedded servers, one filled and written to all the time, kept in step, then compared.

Nothing is installed or left behind; it takes half a minute.

\b
Examples:
  keyferry demo
  keyferry demo --seconds 60
"""

PREFIX = "keyferry-demo-"
IN_SYNC_WITHIN_S = 120.0
STOP_WITHIN_S = 30.0
OPTIONS = (
    *("--port", "0", "--unixsocket", "socket", "--save", "", "--appendonly", "no"),
    *("--daemonize", "no", "--loglevel", "warning", "--repl-diskless-sync-delay", "0"),
)


def demo(
    seconds: Annotated[
        int, typer.Option("--seconds", metavar="N", min=1, max=3600, help="how long to watch the delay")
    ] = 10,
) -> int:
    """Replaced by EXAMPLES: the docstring of a command is its help."""
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent(tempfile.gettempdir())) as place:
        return Demo(Path(place), seconds).run()


demo.__doc__ = EXAMPLES


def parent(usual: str) -> str:
    """Where the demo's directory is made: `usual`, unless the names of sockets would be too long there."""
    longest = os.path.join(usual, PREFIX + "12345678", "source", "socket")
    return usual if len(os.fsencode(longest)) <= SOCKET_LIMIT else "/tmp"  # noqa: S108 - a directory of ours is made there


class Demo:
    """One demo below a directory of its own. All processes end with it."""

    def __init__(self, place: Path, seconds: int) -> None:
        self._place = place
        self._seconds = seconds
        self._pids: list[int] = []
        self._sync: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """The whole demo; 0 when both servers are equal at the end."""
        try:
            return self._run()
        finally:
            if self._sync is not None and self._sync.poll() is None:
                self._stop_sync()
            for pid in reversed(self._pids):
                _kill(pid)

    def _run(self) -> int:
        from sync_tasks.cli import demo_data

        source, target = self._server("source"), self._server("target")
        keys = demo_data.fill(str(source))
        databases = len(demo_data.DATABASES)
        _say(f"source: an embedded Valkey, {keys:,} keys of every type in {databases} databases")
        writer = self._fork("traffic", lambda: demo_data.traffic(str(source)))
        _say(f"traffic: {demo_data.RATE:,} writes a second, and it goes on all the time")
        _say("sync: keyferry sync SOURCE TARGET")
        self._sync = self._command("sync", "--state", str(self._state()), _url(source), _url(target))
        self._wait(lambda reading: reading.in_sync, IN_SYNC_WITHIN_S, "in sync")
        self._watch(self._seconds)
        _kill(writer)
        self._pids.remove(writer)
        demo_data.forget(str(source))
        self._drain(source)
        self._stop_sync()
        _say("traffic stopped, everything applied; now every key is compared: keyferry verify SOURCE TARGET")
        code = self._command("verify", _url(source), _url(target)).wait()
        _say("equal, key by key" if code == 0 else "the servers differ")
        return code

    def _state(self) -> Path:
        return self._place / "state"

    def _fork(self, title: str, run: Callable[[], None]) -> int:
        pid = process.fork(run, f"keyferry demo: {title}", self._place / f"{title}.log")
        self._pids.append(pid)
        return pid

    def _server(self, name: str) -> Path:
        """Start an embedded server; its socket, once it answers."""
        binary, home = broker.binary(), self._place / name
        home.mkdir()

        def become() -> None:
            os.chdir(home)
            os.execv(binary, [f"keyferry-demo-{name}", *OPTIONS])  # noqa: S606

        self._fork(name, become)
        _wait_answer(home / "socket", self._place / f"{name}.log")
        return home / "socket"

    def _command(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The real command line, on our terminal."""
        return subprocess.Popen([sys.executable, "-m", "sync_tasks.cli.main", *arguments])

    def _read(self) -> Reading | None:
        """What the running sync has recorded of itself, or None before there is anything."""
        from sync_tasks.secrets import SecretBox, new_key
        from sync_tasks.settings import Settings
        from sync_tasks.store import Store
        from sync_tasks.supervise.reading import read

        database = self._state() / "keyferry.db"
        if not database.exists():
            return None
        store = Store(Settings(state_dir=self._state()).database(), SecretBox(new_key()))
        try:
            task = store.only_task()
            return read(store, task.id) if task else None
        except ControlError:
            return None  # the database is being made
        finally:
            store.dispose()

    def _wait(self, true: Callable[[Reading], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while (reading := self._read()) is None or not true(reading):
            self._check_sync()
            if time.monotonic() > deadline:
                raise ControlError(f"the demo is not {what} within {seconds:g} s", hint="this is a bug")
            time.sleep(0.2)

    def _check_sync(self) -> None:
        if self._sync is not None and (code := self._sync.poll()) is not None:
            raise ControlError(f"keyferry sync ended with {code}", hint="see the line above")

    def _watch(self, seconds: float) -> None:
        """Time for the bars, which the sync itself shows."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._check_sync()
            time.sleep(0.1)

    def _drain(self, source: Path) -> None:
        """Return once all that the source has written is on the target."""
        from sync_tasks.cli.demo_data import connect

        with connect(str(source)) as client:
            offset = int(client.info("replication")["master_repl_offset"])
        self._wait(
            lambda reading: reading.in_sync and all((n.applied_offset or 0) >= offset for n in reading.nodes),
            IN_SYNC_WITHIN_S,
            "in sync again",
        )

    def _stop_sync(self) -> None:
        assert self._sync is not None
        self._sync.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._sync.wait(STOP_WITHIN_S)
            return
        self._sync.kill()
        self._sync.wait()


def _say(text: str) -> None:
    print(text, flush=True)


def _url(path: Path) -> str:
    return f"unix://{path}"


def _wait_answer(path: Path, log: Path) -> None:
    import redis

    from sync_tasks.cli.demo_data import connect

    for _ in range(500):
        with contextlib.suppress(redis.RedisError), connect(str(path)) as client:
            client.ping()
            return
        time.sleep(0.01)
    said = log.read_text(errors="replace")[-200:].strip()
    raise ControlError("an embedded server does not start", hint=said)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
