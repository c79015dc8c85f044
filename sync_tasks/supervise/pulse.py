"""What probes look at: a file that a process touches for as long as it does its work.

A probe that asked the broker or the database would end workers because one of those is away, and their streams with
them, which need neither for some time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

PLACE = "alive"  # below the state directory
BEAT_S = 5.0
LATE_S = 30.0  # six beats
STUCK_S = 60.0  # a worker's loop, which is to turn every BEAT_S
READY, WAITING = "ready", "waiting"


class Pulse:
    """The file of this process, <state_dir>/alive/<role>-<pid>.

    Args:
        state_dir: of the process; made if need be.
        role: what it is: load, stream, scheduler.
    """

    def __init__(self, state_dir: Path, role: str) -> None:
        self._path = state_dir / PLACE / f"{role}-{os.getpid()}"
        self._next = 0.0
        self._said = ""
        self._born = _born(str(os.getpid()))

    def beat(self, ready: bool) -> None:
        """Touch it, unless that was a moment ago. A disk that refuses is a reason to be found late, not to end."""
        said = READY if ready else WAITING
        if time.monotonic() < self._next and said == self._said:
            return
        self._next, self._said = time.monotonic() + BEAT_S / 2, said
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.write_text(f"{said} {self._born}\n")
        except OSError as error:
            log.warning("cannot write %s: %s", self._path, error.strerror)

    def keep(self, ready: Callable[[], bool | None]) -> None:
        """Touch it from a thread of its own, for as long as `ready` knows an answer."""

        def beats() -> None:
            while True:
                if (answer := ready()) is not None:
                    self.beat(answer)
                time.sleep(BEAT_S)

        threading.Thread(target=beats, name="pulse", daemon=True).start()

    def end(self) -> None:
        """The process ends, and nobody is to wait for it."""
        with contextlib.suppress(OSError):
            self._path.unlink()


class Turning:
    """Whether a worker's main loop turns. Away from the broker it does not, and need not."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def turn(self) -> None:
        """The loop has come by."""
        self._last = time.monotonic()

    def ready(self, connected: bool) -> bool | None:
        """Whether it takes work; None: it is stuck."""
        if connected and time.monotonic() - self._last > STUCK_S:
            return None
        return connected


@dataclass(frozen=True, slots=True)
class Seen:
    """One process. `age_s`: seconds since its last beat."""

    name: str
    ready: bool
    age_s: float

    @property
    def late(self) -> bool:
        return self.age_s > LATE_S


def seen(state_dir: Path) -> list[Seen]:
    """Processes of a state directory that live and have a pulse, by name; those that died are left out."""
    found = []
    for path in sorted((state_dir / PLACE).glob("*-*")):
        with contextlib.suppress(OSError):
            age = time.time() - path.stat().st_mtime
            said, _, born = path.read_text().strip().partition(" ")
            if born and born == _born(path.name.rpartition("-")[2]):
                found.append(Seen(path.name, said == READY, max(0.0, age)))
    return found


def _born(pid: str) -> str:
    """When a process began, in ticks since the machine did; empty if there is none. Numbers of processes come again:
    a container that is started anew on the files of a killed one has the same few."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
