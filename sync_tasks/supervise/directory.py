"""The state directory DIR: readable by its owner alone, locked by who runs it, with room to work in."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sync_tasks.errors import ControlError
from sync_tasks.supervise import lock

LEAST_ROOM = 8 << 20  # bytes free without which no first start is tried: database and logs alone take some
FULL_BELOW = 1 << 20  # bytes free under which the disk counts as full while running
LOG_LIMIT = 8 << 20  # bytes of a log file above which a start moves it aside
SOCKET_LIMIT = 100  # bytes of a unix socket's path; the kernel takes 107


class Directory:
    """DIR. Holds a descriptor of it for as long as the command runs."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self._lock = -1
        self._descriptor = -1

    def open(self, pause: Callable[[float], None] = time.sleep) -> Directory:
        """Make it, lock it, see that there is room. Raises ControlError."""
        with self._explained():
            self._make()
            self._lock = lock.take(self.path / "lock", pause)
            self.path.chmod(0o700)
            self.logs.mkdir(mode=0o700, exist_ok=True)
        # A later start may go on: what fills the disk is the spool, and applying it is what makes room.
        if self.room() < LEAST_ROOM and not (self.path / "keyferry.db").exists():
            raise self._full()
        return self._hold()

    def attach(self) -> Directory:
        """Make it if need be, and leave the lock to whoever runs it. Raises ControlError."""
        with self._explained():
            self._make()
        return self._hold()

    def close(self) -> None:
        """Leave nothing in DIR that only a running command needs. The lock goes with the process."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.unlink("broker.sock", dir_fd=self._descriptor)

    def room(self) -> int:
        """Bytes that may still be written below DIR."""
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def is_full(self) -> bool:
        """Whether there is no room left, as far as the file system says."""
        with contextlib.suppress(OSError):
            return self.room() < FULL_BELOW
        return False

    def socket(self) -> Path:
        """The broker's socket as clients name it; through our descriptor of DIR when the path is too long."""
        plain = self.path / "broker.sock"
        if len(os.fsencode(plain)) <= SOCKET_LIMIT:
            return plain
        return Path(f"/proc/{os.getpid()}/fd/{self._descriptor}/broker.sock")

    def log(self, role: str) -> Path:
        """The log file of a child; what grew too long is moved aside, once."""
        path = self.logs / f"{role}.log"
        with contextlib.suppress(OSError):
            if path.stat().st_size > LOG_LIMIT:
                path.replace(path.with_suffix(".log.1"))
        return path

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")

    def _hold(self) -> Directory:
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (28, 122):  # ENOSPC, EDQUOT
                raise self._full() from error
            raise ControlError(
                f"cannot use the state directory {self.path}: {error.strerror}",
                code="state-dir",
                hint="give a directory that you may write to with --state",
            ) from error

    def _full(self) -> ControlError:
        return ControlError(
            f"the disk is full: {self.room() >> 20} MiB free at {self.path}",
            code="disk-full",
            hint="make room or give --state on a larger disk, then run the same command again",
        )
