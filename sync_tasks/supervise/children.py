"""The children of a command that runs several: started, replaced when they die, ended without a rest."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sync_tasks.errors import ControlError
from sync_tasks.supervise import process
from sync_tasks.supervise.directory import Directory
from sync_tasks.supervise.temporary import Temporary

PAUSE_FIRST_S = 0.1
PAUSE_MOST_S = 5.0
STEADY_S = 10.0  # a child that lived so long starts with the shortest pause again
HOPELESS = 6  # ends by itself, in a row and at once, after which replacing is no help
AT_ONCE_S = 2.0  # an end this soon after the start counts as one of those
KILL_WAIT_S = 3.0  # until a killed process must be gone


@dataclass(frozen=True, slots=True)
class Role:
    """What a child is: its name, what it does, and the seconds from SIGTERM to SIGKILL."""

    name: str
    run: Callable[[], None]
    patience_s: float = 2.0

    @property
    def title(self) -> str:
        """As `ps` shows it."""
        return f"keyferry: {self.name}"


@dataclass(slots=True)
class Child:
    """One place in the family, whoever fills it."""

    role: Role
    pid: int | None = None
    started: float = 0.0  # monotonic seconds
    due: float = 0.0  # of the next start
    deaths: int = 0  # in a row, for the pause
    collapses: int = 0  # in a row: ended by itself, at once


class Children:
    """Starts and tends them. Single-threaded, as forks demand.

    Args:
        directory: for the logs.
        before_fork: closes what must not be shared, such as database connections.
        on_death: told the pid of each dead child, once it is certain.
    """

    def __init__(self, directory: Directory, before_fork: Callable[[], None], on_death: Callable[[int], None]) -> None:
        self._directory = directory
        self._before_fork = before_fork
        self._on_death = on_death
        self._children: list[Child] = []
        self._temporary = Temporary()

    def start(self, role: Role) -> None:
        """Fork it now, and keep it alive from now on."""
        child = Child(role)
        self._children.append(child)
        self._fork(child)

    def pids(self) -> dict[str, int]:
        """Living children by role."""
        return {child.role.name: child.pid for child in self._children if child.pid is not None}

    def tend(self) -> None:
        """Bury the dead, start those that are due.

        Raises:
            ControlError: one ends by itself each time it is started.
        """
        for pid, status in _reaped():
            for child in self._children:
                if child.pid == pid:
                    self._mourn(child, status)
        now = time.monotonic()
        for child in self._children:
            if child.pid is None and now >= child.due:
                self._fork(child)

    def stop(self, wait: Callable[[float], bool]) -> None:
        """Ask all to end, then kill; the broker last, since the others would complain.

        Args:
            wait: sleeps some seconds; returns whether the user has lost patience.
        """
        self.end({child.role.name for child in self._children} - {"broker"}, wait)
        self.kill()

    def end(
        self, names: Collection[str], wait: Callable[[float], bool], enough: Callable[[], bool] = lambda: False
    ) -> bool:
        """Ask some to end, wait for as long as their patience is, kill what is left of them.

        Args:
            names: of roles; they are not started again.
            wait: as in `stop`.
            enough: whether nothing is left that would be worth waiting for.

        Returns:
            whether the user has lost patience.
        """
        asked = [child for child in self._children if child.role.name in names]
        for child in asked:
            child.due = float("inf")
            _signal(child.pid, signal.SIGTERM, group=False)
        start = time.monotonic()
        impatient = False
        while not impatient and any(
            child.pid is not None and time.monotonic() - start < child.role.patience_s for child in asked
        ):
            if enough():
                break
            impatient = wait(0.05)
            self._note_dead()
        for child in asked:
            _signal(child.pid, signal.SIGKILL, group=True)
        return impatient

    def kill(self) -> None:
        """SIGKILL to each child's whole group; returns when no process is left, grandchildren included."""
        for child in self._children:
            _signal(child.pid, signal.SIGKILL, group=True)
        deadline = time.monotonic() + KILL_WAIT_S
        while time.monotonic() < deadline:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                time.sleep(0.005)
        for child in self._children:
            child.pid = None
            child.due = float("inf")
        self._temporary.remove()

    def _fork(self, child: Child) -> None:
        self._before_fork()
        role = child.role
        run = self._temporary.within(role.run)
        child.pid = process.fork(run, role.title, self._directory.log(role.name.replace(" ", "-")))
        child.started = time.monotonic()

    def _note_dead(self) -> None:
        dead = {pid for pid, _ in _reaped()}
        for child in self._children:
            if child.pid in dead:
                child.pid = None

    def _mourn(self, child: Child, status: int) -> None:
        now = time.monotonic()
        pid, child.pid = child.pid, None
        lived = now - child.started
        child.deaths = 1 if lived >= STEADY_S else child.deaths + 1
        child.collapses = child.collapses + 1 if lived < AT_ONCE_S and os.WIFEXITED(status) else 0
        child.due = now + pause(child.deaths)
        if pid is not None:
            self._on_death(pid)
        if child.collapses >= HOPELESS:
            log = self._directory.log(child.role.name.replace(" ", "-"))
            raise ControlError(
                f"the {child.role.name} ends each time it is started", code="child-ends", hint=f"see {log}"
            )


def pause(deaths: int) -> float:
    """Seconds before a child is replaced that died `deaths` times in a row: 0.1, 0.2, ... 5."""
    return min(PAUSE_MOST_S, PAUSE_FIRST_S * 2.0 ** min(deaths - 1, 10))


def _reaped() -> list[tuple[int, int]]:
    """All that have died since: our children, whose groups go with them, and orphans that became ours."""
    found: list[tuple[int, int]] = []
    with contextlib.suppress(ChildProcessError):
        # The group is killed while the dead one still holds its number, so that nobody else can have it.
        while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            _signal(dead.si_pid, signal.SIGKILL, group=True)
            found.append(os.waitpid(dead.si_pid, 0))
    return found


def _signal(pid: int | None, number: int, *, group: bool) -> None:
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
