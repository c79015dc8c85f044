"""A throw-away PostgreSQL for tests: started within a second, on a unix socket, never outliving us.

    with start() as url:
        psycopg.connect(...)

Binaries are those of pg_config, of Debian's /usr/lib/postgresql, or of PATH.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

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


@contextmanager
def start() -> Iterator[str]:
    """An SQLAlchemy URL of a running server's database `postgres`; its one user owns it and has no password."""
    bin = needs_postgres()
    account = _account()
    # Under /tmp whatever TMPDIR says: a socket's path is short, and another account must reach it.
    with tempfile.TemporaryDirectory(prefix="keyferry-pg-", dir="/tmp", ignore_cleanup_errors=True) as name:
        place = Path(name)
        if account:
            os.chown(place, account["user"], account["group"])
        _run([bin / "initdb", "-D", place / "data", "-U", "keyferry", "-A", "trust", "-E", "UTF8", "--locale=C",
              "--no-sync", "--no-instructions"], place, account)  # fmt: skip
        settings = [f"--{key}={value}" for key, value in {**SETTINGS, "unix_socket_directories": name}.items()]
        with (place / "server.log").open("wb") as log:
            process = subprocess.Popen(
                [bin / "postgres", "-D", place / "data", *settings],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place, preexec_fn=die_with_parent, **account,
            )  # fmt: skip
        try:
            _wait(process, place)
            yield f"postgresql+psycopg://keyferry@/postgres?host={name}"
        finally:
            _stop(process)


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


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGQUIT)  # at once, but its shared memory goes
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
