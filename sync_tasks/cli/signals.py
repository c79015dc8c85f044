"""SIGINT, SIGTERM and SIGHUP: an exception before anything runs, a flag once children do."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """The user asked to stop. `exit_code` is 128 + the signal's number, as shells have it.

    No KeyboardInterrupt: the library that reads the command line would make a 130 of every one.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


_early: list[int] = []
"""Stops so far. An exception may be raised where nobody can hear it: in a destructor, or a callback of a library's."""


def _raise(number: int, _frame: FrameType | None) -> None:
    _early.append(number)
    raise Interrupted(number)


def raise_on_stop() -> None:
    """From the first moment on: a stop is an exception that the top level turns into an exit code."""
    for number in STOPPING:
        signal.signal(number, _raise)


def ignore_stop() -> None:
    """The end has come anyway: nothing may disturb the interpreter's own."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


class Signals:
    """Counts stops instead of raising, and wakes the one waiting loop; for the time that children run."""

    def __init__(self) -> None:
        self.stops = len(_early)
        self.number = _early[0] if _early else 0
        self._reader, self._writer = -1, -1

    def install(self) -> None:
        """From now on stops are counted; `wait` returns early on any of them and on a child's death."""
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in STOPPING:
            signal.signal(number, self._count)
        # A handler, so that the wakeup descriptor hears of it; the reaping is done by the loop.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def _count(self, number: int, _frame: FrameType | None) -> None:
        self.stops += 1
        self.number = self.number or number

    @property
    def exit_code(self) -> int:
        """128 + the first signal's number."""
        return 128 + self.number

    def check(self) -> None:
        """Raise `Interrupted` if a stop was asked for."""
        if self.stops:
            raise Interrupted(self.number)

    def wait(self, seconds: float) -> None:
        """Sleep, but not through a signal."""
        ready, _, _ = select.select([self._reader], [], [], max(0.0, seconds))
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 4096)
