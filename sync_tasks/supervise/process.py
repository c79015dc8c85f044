"""Forking one child: its own group, dead with its parent, output to a log, no secret in its title."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import setproctitle

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CRASHED = 70  # EX_SOFTWARE of sysexits.h: an exception ended the child

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Grandchildren whose parent was killed become ours, so that the end can wait for every one of them."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """The kernel kills this process when the one that forked it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def end_by_signals() -> None:
    """A signal ends the process at once, with the code of a shell: of what keeps nothing. Not the default action: the
    first process of a container has none."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: os._exit(128 + number))


def fork(run: Callable[[], None], title: str, log: Path) -> int:
    """Start `run` in a child; its process id.

    The caller must be single-threaded and hold no open database connection.

    Args:
        run: what the child does; its return or SystemExit ends it, an exception goes to the log.
        title: as `ps` shows it.
        log: takes stdout and stderr, appended, readable by the owner alone.
    """
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    # No signal may reach the child while it still has the parent's handlers and wakeup pipe.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _be_child(run, title, log, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _be_child(run: Callable[[], None], title: str, log: Path, parent: int) -> None:
    code = CRASHED
    try:
        _settle_in(title, log, parent)
        run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001 - nothing may climb out of a child into the parent's code
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _settle_in(title: str, log: Path, parent: int) -> None:
    os.setpgid(0, 0)  # Ctrl-C at the terminal is the parent's affair
    die_with_parent()
    if os.getppid() != parent:
        os._exit(CRASHED)  # it died before prctl, which then tells nobody
    signal.set_wakeup_fd(-1)
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(stop, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    setproctitle.setproctitle(title)
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, number in ((null, 0), (out, 1), (out, 2)):
        os.dup2(descriptor, number)
    os.close(null)
    os.close(out)
    # Whatever stood in the place of stdout in the parent must not take what the child writes.
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
