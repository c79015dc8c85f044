"""A throw-away PostgreSQL for tests: started within a second, on a unix socket, never outliving us.

    with start() as url:
        psycopg.connect(...)

Binaries are those of pg_config, of Debian's /usr/lib/postgresql, or of PATH.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pytest

from tests.servers import STOP_TIMEOUT, die_with_parent

START_TIMEOUT = 20.0  # seconds until it must take connections
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    # Nothing here is worth keeping through a power cut.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "dynamic_shared_memory_type": "mmap",  # else a killed server leaves its files in /dev/shm
}


@cache
def binaries() -> Path | None:
    """The directory of initdb and postgres, if there is one."""
    places = [Path(found).resolve().parent for name in ("postgres", "initdb") if (found := shutil.which(name))]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: int(place.parent.name), reverse=True)
    if config := shutil.which("pg_config"):
        said = subprocess.run([config, "--bindir"], capture_output=True, text=True, timeout=10).stdout.strip()
        places.insert(0, Path(said))
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


def needs_postgres() -> Path:
    """Where its binaries are. Skips the calling test when there are none, or no driver; in CI fails it instead."""
    found = binaries()
    missing = "PostgreSQL" if found is None else "psycopg" if importlib.util.find_spec("psycopg") is None else None
    if missing is None:
        assert found is not None
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"no {missing} here", pytrace=False)
    pytest.skip(f"no {missing} here")


class Postgres:
    """One server with a data directory of its own. As a context manager it runs for the block.

    `url`: SQLAlchemy's, of its database `postgres`; its one user owns it and has no password.

    Args:
        settings: what differs from `SETTINGS`.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._bin = needs_postgres()
        self._settings = {**SETTINGS, **(settings or {})}
        self._account = _account()
        # Under /tmp whatever TMPDIR says: a socket's path is short, and another account must reach it.
        self._directory = tempfile.TemporaryDirectory(prefix="keyferry-pg-", dir="/tmp", ignore_cleanup_errors=True)
        self._place = Path(self._directory.name)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql+psycopg://keyferry@/postgres?host={self._place}"
        if self._account:
            os.chown(self._place, self._account["user"], self._account["group"])
        _run([self._bin / "initdb", "-D", self._place / "data", "-U", "keyferry", "-A", "trust", "-E", "UTF8",
              "--locale=C", "--no-sync", "--no-instructions"], self._place, self._account)  # fmt: skip

    def start(self) -> None:
        """Start it, for the first time or with all it has committed, and wait until it takes connections."""
        given = {**self._settings, "unix_socket_directories": self._place}
        settings = [f"--{key}={value}" for key, value in given.items()]
        with (self._place / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._place / "data", *settings],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._place, preexec_fn=die_with_parent,
                **self._account,
            )  # fmt: skip
        _wait(self._process, self._place)

    def stop(self) -> None:
        """End it and its sessions at once."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(signal.SIGINT)
            _end(self._process)
            self._process = None

    def pause(self) -> None:
        """SIGSTOP to it and its sessions: nothing is closed, nothing answers."""
        for process in self._family():
            process.suspend()

    def resume(self) -> None:
        for process in self._family():
            process.resume()

    def _family(self) -> list[psutil.Process]:
        assert self._process
        top = psutil.Process(self._process.pid)
        return [top, *top.children(recursive=True)]

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            with contextlib.suppress(psutil.Error):
                self.resume()
            self._process.send_signal(signal.SIGQUIT)  # at once, but its shared memory goes
            _end(self._process)
        self._directory.cleanup()


@contextmanager
def start() -> Iterator[str]:
    """The URL of a server that runs for the block."""
    with Postgres() as server:
        yield server.url


def _account() -> dict[str, Any]:
    """Arguments of Popen: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _run(command: list[Any], place: Path, account: dict[str, Any]) -> None:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60, **account)
    if done.returncode:
        raise RuntimeError(f"initdb failed:\n{done.stderr[-2000:]}")


def _wait(process: subprocess.Popen[bytes], place: Path) -> None:
    import psycopg

    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            psycopg.connect(f"host={place} user=keyferry dbname=postgres").close()
            return
        except psycopg.OperationalError:
            time.sleep(0.02)
    raise RuntimeError(f"PostgreSQL did not start:\n{(place / 'server.log').read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
