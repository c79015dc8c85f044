"""`keyferry` commands forked from a process that has imported everything: a third of a test run was imports.

One such process for each process of pytest. A command that it forks is one that was started, but for the imports:
arguments, environment, directory and descriptors are its own. What the start itself is tested by still starts.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from typing import IO, Any

import setproctitle

from tests.servers import die_with_parent

MODULE = "sync_tasks.cli.main"
TITLE = "tests: forks keyferry"
STATUS = struct.Struct("q")
MOST = 1 << 18  # bytes of one request; an environment is some KB
SAME = ("KEYFERRY_", "PYTEST_")  # names that only what runs after the imports reads


class Forked:
    """The part of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, status: int, stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self.pid, self.stdout, self.stderr = pid, stdout, stderr
        self.returncode: int | None = None
        self._status = status
        self._lock = threading.Lock()

    def _look(self, seconds: float | None) -> int | None:
        with self._lock:
            if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
                said = os.read(self._status, STATUS.size)
                os.close(self._status)
                self.returncode = STATUS.unpack(said)[0] if said else -signal.SIGKILL
            return self.returncode

    def poll(self) -> int | None:
        """Its exit code, or minus the signal, once it has ended."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """The same, waiting for it."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing if it has ended: its number may be another's."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def can(module: str, env: dict[str, str]) -> bool:
    """Whether a fork would do the same: under pytest, the command itself, nothing set that imports might read."""
    names = {name for name in {*env, *os.environ} if env.get(name) != os.environ.get(name)}
    return "PYTEST_CURRENT_TEST" in os.environ and module == MODULE and all(n.startswith(SAME) for n in names)


def fork(words: list[str], env: dict[str, str], out: int | None = None) -> Forked:
    """`keyferry WORDS`.

    Args:
        words: without the name of the command.
        env: the whole environment.
        out: descriptor for stdout and stderr; without it both are pipes.
    """
    ours: list[IO[str] | None] = [None, None]
    theirs = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
    for at in range(2):
        if out is None:
            read, write = os.pipe()
            ours[at] = open(read)  # noqa: SIM115 - the caller's
            theirs.append(write)
        else:
            theirs.append(os.dup(out))
    status, said = os.pipe()
    request = json.dumps({"words": words, "env": env, "cwd": os.getcwd()}).encode()
    try:
        with _lock:
            socket.send_fds(_nursery(), [request], [*theirs, said])
    finally:
        for descriptor in (*theirs, said):
            os.close(descriptor)
    pid = STATUS.unpack(os.read(status, STATUS.size))[0]
    return Forked(pid, status, *ours)


_lock = threading.Lock()
_line: socket.socket | None = None


def _nursery() -> socket.socket:
    """The way to it. It ends with this process, and all its children with it."""
    global _line
    if _line is None:
        _line, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        _line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST)
        with other:
            command = [sys.executable, "-m", "tests.forked", str(other.fileno())]
            process = subprocess.Popen(command, pass_fds=[other.fileno()])
        atexit.register(process.wait, 10)
        atexit.register(_line.close)
    return _line


# --- in that process


def _serve(line: socket.socket) -> None:
    """Fork as asked, tell what became of it. Returns in the forked ones alone."""
    poll = select.poll()
    children: dict[int, tuple[int, int]] = {}  # by descriptor: its number, and who is told of its end
    poll.register(line, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready in children:
                poll.unregister(ready)
                _tell(ready, *children.pop(ready))
                continue
            data, descriptors, _, _ = socket.recv_fds(line, MOST, 4)
            if not data:
                sys.exit()
            pid = os.fork()
            if pid == 0:
                for descriptor in (line.fileno(), *children, *(said for _, said in children.values())):
                    os.close(descriptor)
                return _become(json.loads(data), descriptors)
            for descriptor in descriptors[:3]:
                os.close(descriptor)
            os.write(descriptors[3], STATUS.pack(pid))
            life = os.pidfd_open(pid)
            children[life] = (pid, descriptors[3])
            poll.register(life, select.POLLIN)


def _tell(life: int, pid: int, said: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # whoever started it has ended
        os.write(said, STATUS.pack(code))
    os.close(said)
    os.close(life)


def _become(asked: dict[str, Any], descriptors: list[int]) -> None:
    die_with_parent()
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115 - for its life
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = ["keyferry", *asked["words"]]


def _import_all() -> None:
    from sync_tasks.cli import main
    from sync_tasks.supervise import roles

    roles.preload(lambda: None)
    for place in main.VERBS.values():
        importlib.import_module(place.partition(":")[0])
    for module in ("sync_tasks.client", "sync_tasks.secrets", "rich.live", "rich.progress"):
        importlib.import_module(module)
    # A title takes the place of the arguments and environment that a process was given. They are only found while
    # os.environ is still in that place, so not in a fork that has another: found here, forks inherit them.
    setproctitle.setproctitle(TITLE)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is pytest's affair
    _import_all()
    with socket.socket(fileno=int(sys.argv[1])) as _control:
        _serve(_control)
        _control.detach()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    importlib.import_module(MODULE).run()
