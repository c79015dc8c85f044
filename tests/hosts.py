"""Processes of an installation spread over hosts: each host has a state directory, all share a database and a broker.

with Installation(tmp_path, database_url, broker) as here:
    a = here.host("a")
    a.start("worker", "--stream", "3")
    a.kill()
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from sqlalchemy import NullPool, create_engine, text

from sync_tasks.secrets import new_key
from sync_tasks.store import migrate
from tests import forked
from tests.servers import die_with_parent, free_port

PASSWORD = "of-the-page"


class Process:
    """One `keyferry` command with its children; its log is a file."""

    def __init__(self, words: tuple[str, ...], env: dict[str, str], log: Path) -> None:
        self.words, self.log = words, log
        self.popen: subprocess.Popen[bytes] | forked.Forked
        with log.open("ab") as out:
            if forked.can(forked.MODULE, env):
                self.popen = forked.fork([*words], env, out.fileno())
            else:
                self.popen = subprocess.Popen(
                    [sys.executable, "-m", forked.MODULE, *words],
                    env=env, stdout=out, stderr=out, preexec_fn=die_with_parent,
                )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL to it and all below it."""
        try:
            family = [*psutil.Process(self.popen.pid).children(recursive=True), psutil.Process(self.popen.pid)]
        except psutil.NoSuchProcess:
            return
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.popen.wait(10)

    def ask(self) -> None:
        """SIGTERM."""
        self.popen.send_signal(signal.SIGTERM)

    def stop(self, timeout: float = 40.0) -> int:
        """SIGTERM; the exit code."""
        self.ask()
        return self.popen.wait(timeout)


class Host:
    """A machine: a state directory with a spool of its own."""

    def __init__(self, name: str, directory: Path, env: dict[str, str]) -> None:
        self.name, self.directory = name, directory
        self.env = {**env, "KEYFERRY_STATE_DIR": str(directory), "KEYFERRY_HOST": name}
        self.processes: list[Process] = []
        directory.mkdir(parents=True)

    def start(self, *words: str) -> Process:
        """One command."""
        log = self.directory / f"{'-'.join(words).replace('--', '')}-{len(self.processes)}.log"
        made = Process(words, self.env, log)
        self.processes.append(made)
        return made

    def kill(self) -> None:
        """As if its power were cut."""
        for process in self.processes:
            process.kill()
        self.processes.clear()

    def report(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"== {path}\n{path.read_text()[-1500:]}" for path in sorted(self.directory.glob("*.log")))


class Installation:
    """One database, one broker, any number of hosts.

    Args:
        directory: for the state directories.
        database_url: SQLAlchemy's.
        broker_url: Celery's.
    """

    def __init__(self, directory: Path, database_url: str, broker_url: str) -> None:
        self.directory = directory
        self.flower_port = free_port()
        self.settings = {
            "KEYFERRY_DATABASE_URL": database_url,
            "KEYFERRY_BROKER_URL": broker_url,
            "KEYFERRY_SECRET_KEY": new_key().decode(),
            "KEYFERRY_FLOWER_PORT": str(self.flower_port),
            "KEYFERRY_FLOWER_PASSWORD": PASSWORD,
        }
        self.hosts: list[Host] = []
        self._engine = create_engine(database_url, poolclass=NullPool)

    def host(self, name: str) -> Host:
        """Another machine."""
        made = Host(name, self.directory / name, {**os.environ, **self.settings})
        self.hosts.append(made)
        return made

    def flower(self, path: str) -> Any:
        """An answer of Flower's API."""
        token = base64.b64encode(f"keyferry:{PASSWORD}".encode()).decode()
        url = f"http://127.0.0.1:{self.flower_port}{path}"
        request = urllib.request.Request(url, headers={"Authorization": f"Basic {token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def controlled(self) -> Host:
        """The tables, and a machine `c` with a scheduler."""
        migrate(self.settings["KEYFERRY_DATABASE_URL"])
        made = self.host("c")
        made.start("scheduler")
        return made

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table, as they are now."""
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()]

    def owner(self, lease: str) -> str:
        """Who holds it: <host>:<worker>:<process>:<random>, or nothing."""
        return next((row["owner"] or "" for row in self.rows("lease") if row["name"] == lease), "")

    def report(self) -> str:
        return "\n".join(host.report() for host in self.hosts)

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.report())
        for host in self.hosts:
            host.kill()
