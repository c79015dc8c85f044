"""The real command as a test sees it: its JSON lines, its processes, its end.

    with Keyferry(source.url(), target.url(), state) as ferry:
        ferry.wait_in_sync()
        ferry.kill("stream worker", child=True)
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tests import forked
from tests.servers import die_with_parent

Line = dict[str, Any]
ROLES = ("broker", "load worker", "stream worker", "scheduler")
FIELDS = (
    *("phase", "in_sync", "delay_ms", "source_offset", "applied_offset", "keys_done", "keys_total"),
    *("bytes_done", "bytes_total", "retry", "error", "nodes"),
)


class Keyferry:
    """One run of `keyferry sync ... --json`.

    Args:
        source: URL.
        target: URL.
        state: the state directory; a second run on the same goes on.
        until: `never`, `full` or `in-sync`.
        config: text of a configuration file.
        load_workers: how many.
        env: more environment.
    """

    def __init__(
        self,
        source: str,
        target: str,
        state: Path,
        *,
        until: str = "never",
        config: str | None = None,
        load_workers: int | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.state = state
        self.command = [sys.executable, "-m", "sync_tasks.cli.main", "sync", source, target]
        self.command += ["--state", str(state), "--until", until, "--json"]
        state.parent.mkdir(parents=True, exist_ok=True)
        if config is not None:
            path = state.parent / f"{state.name}.toml"
            path.write_text(config)
            self.command += ["--config", str(path)]
        if load_workers is not None:
            self.command += ["--load-workers", str(load_workers)]
        self.env = {**os.environ, **(env or {})}
        self.lines: list[Line] = []
        self.times: list[float] = []  # of the lines, monotonic seconds
        self.errors = ""
        self.seen: dict[int, psutil.Process] = {}
        self.process: subprocess.Popen[str] | forked.Forked | None = None
        self._news = threading.Condition()

    # -- life

    def start(self) -> Keyferry:
        _, _, module, *words = self.command
        if forked.can(module, self.env):
            self.process = forked.fork(words, self.env)
        else:
            self.process = subprocess.Popen(
                self.command,
                env=self.env,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                preexec_fn=die_with_parent,
            )
        todo = (self._read, self._read_errors)
        self._readers = [threading.Thread(target=read, daemon=True) for read in todo]
        for reader in self._readers:
            reader.start()
        return self

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line = json.loads(text)
            with self._news:
                self.lines.append(line)
                self.times.append(time.monotonic())
                self._news.notify_all()
            self.processes()
        with self._news:
            self._news.notify_all()

    def _read_errors(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        for text in self.process.stderr:
            self.errors += text

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait_begun(self, timeout: float = 30.0) -> None:
        """Until it catches signals. Before, the interpreter starts, and what it does with them is not ours."""
        assert self.process
        status, caught = Path(f"/proc/{self.process.pid}/status"), 0
        deadline = time.monotonic() + timeout
        while not caught >> (signal.SIGTERM - 1) & 1:
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.005)
            caught = next(int(line.split()[1], 16) for line in status.read_text().splitlines() if line[:6] == "SigCgt")

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end; the exit code. No process may be left, and no traceback on stderr."""
        assert self.process
        code = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(5)
        assert "Traceback" not in self.errors, self.errors
        self.assert_gone()
        return code

    def stop(self, number: signal.Signals = signal.SIGINT, timeout: float = 30.0) -> int:
        """Ask it to stop; the exit code."""
        assert self.process
        self.processes()
        self.process.send_signal(number)
        return self.wait(timeout)

    def __enter__(self) -> Keyferry:
        return self if self.process else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.report(), file=sys.stderr)
        self.kill_tree()

    def report(self) -> str:
        """What a failed test shows."""
        last = "\n".join(json.dumps(line) for line in self.lines[-2:])
        return f"last lines:\n{last}\nstderr:\n{self.errors[-3000:]}"

    # -- lines

    @property
    def last(self) -> Line:
        assert self.lines, "no line yet"
        return self.lines[-1]

    def wait_for(self, true: Callable[[Line], object], timeout: float = 60.0, *, what: str = "") -> Line:
        """The first line from now on for which `true` holds, the present one included."""
        deadline = time.monotonic() + timeout
        with self._news:
            at = max(0, len(self.lines) - 1)
            while True:
                for line in self.lines[at:]:
                    if true(line):
                        return line
                at = len(self.lines)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not within {timeout:g} s: {what or true}\n{self.report()}")
                if not self.alive and not self._readers[0].is_alive() and len(self.lines) == at:
                    raise AssertionError(f"it ended before: {what or true}\n{self.report()}")
                self._news.wait(min(left, 0.2))

    def wait_phase(self, *phases: str, timeout: float = 60.0) -> Line:
        return self.wait_for(lambda line: line["phase"] in phases, timeout, what=f"phase {phases}")

    def wait_retry(self, side: str, timeout: float = 15.0) -> Line:
        """A line with an open retry window of that side."""
        what = f"a retry window of the {side}"
        return self.wait_for(lambda line: line["retry"] and line["retry"]["side"] == side, timeout, what=what)

    def wait_in_sync(self, timeout: float = 60.0, *, offset: int | None = None) -> Line:
        """A line that says it is in sync; with `offset`, having applied so much."""
        return self.wait_for(
            lambda line: line["in_sync"]
            and (offset is None or (line["applied_offset"] is not None and line["applied_offset"] >= offset)),
            timeout,
            what=f"in sync at {offset}",
        )

    def settle(self, source: Any, timeout: float = 60.0) -> Line:
        """In sync with all that the server `source` has written until now."""
        offset = int(source.client().info("replication")["master_repl_offset"])
        return self.wait_in_sync(timeout, offset=offset)

    # -- processes

    def processes(self) -> list[psutil.Process]:
        """The living tree, the command first. All that were ever seen are remembered."""
        if not self.process:
            return []
        try:
            top = psutil.Process(self.process.pid)
            found = [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            found = []
        for process in found:
            self.seen.setdefault(process.pid, process)
        return found

    def find(self, role: str, *, child: bool = False) -> list[psutil.Process]:
        """Processes of a role by their title; with `child`, those of its Celery pool."""
        assert role in ROLES
        title = f"keyferry: {role}"
        if child:
            return [p for worker in self.find(role) for p in _children(worker) if _title(p).startswith(title)]
        if role == "broker":
            return [p for p in self.processes() if "broker.sock" in _title(p) or _title(p).startswith(title)]
        return [p for p in self.processes() if _title(p) == title]

    def one(self, role: str, *, child: bool = False, timeout: float = 30.0) -> psutil.Process:
        """Such a process, waiting for it while it is being replaced."""
        deadline = time.monotonic() + timeout
        while not (found := self.find(role, child=child)):
            titles = [_title(process) for process in self.processes()]
            assert time.monotonic() < deadline, f"no {role} (child: {child}) among {titles}"
            time.sleep(0.05)
        return found[0]

    def kill(self, role: str, *, child: bool = False) -> int:
        """SIGKILL one of a role; its pid."""
        process = self.one(role, child=child)
        process.kill()
        return process.pid

    def kill_tree(self, rng: random.Random | None = None) -> None:
        """SIGKILL everything, as a power cut would; in random order with `rng`, else the command first."""
        if not self.process:
            return
        found = self.processes()
        if rng:
            rng.shuffle(found)
        for process in found:
            _kill(process)
        for process in self.left():
            _kill(process)
        self.process.wait(10)
        for reader in self._readers:
            reader.join(5)
        psutil.wait_procs(list(self.seen.values()), timeout=5)

    def left(self) -> list[psutil.Process]:
        """Processes that it started and that live on without it."""
        gone: Sequence[str] = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        present = self.process.pid if self.process and self.alive else None
        others = [process for process in self.seen.values() if process.pid != present]
        return [process for process in others if process.is_running() and _status(process) not in gone]

    def assert_gone(self, timeout: float = 1.0) -> None:
        """No process of ours outlived the command."""
        deadline = time.monotonic() + timeout
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not self.left(), f"left behind: {[(p.pid, _title(p)) for p in self.left()]}"

    def chunks(self) -> list[Line]:
        """Rows of the chunks, as the database has them; none before there is one."""
        return self.rows("SELECT * FROM chunk")

    def rows(self, query: str) -> list[Line]:
        """What the database of the state directory answers; nothing before it is there."""
        if not (self.state / "keyferry.db").exists():
            return []
        database = sqlite3.connect(f"file:{self.state / 'keyferry.db'}?mode=ro", uri=True, timeout=10)
        with contextlib.closing(database):
            database.row_factory = sqlite3.Row
            try:
                return [dict(row) for row in database.execute(query)]
            except sqlite3.OperationalError:
                return []

    def rss_mb(self) -> dict[str, float]:
        """Resident memory of each process in MB, by title and pid."""
        out = {}
        for process in self.processes():
            try:
                out[f"{_title(process)} {process.pid}"] = process.memory_info().rss / 1e6
            except psutil.NoSuchProcess:
                continue
        return out


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_DEAD)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def sync(source: str, target: str, state: Path, **kw: Any) -> Keyferry:
    """A run to its end (`until` in-sync if not given); it must exit with 0."""
    ferry = Keyferry(source, target, state, **{"until": "in-sync", **kw})
    with ferry:
        code = ferry.wait(120)
        assert code == 0, f"exit code {code}\n{ferry.report()}"
    return ferry
