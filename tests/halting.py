"""Stopping a process that works on a database of SQLite."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import psutil


def halt(process: psutil.Process, database: Path) -> None:
    """SIGSTOP, but not within a transaction: with SQLite nobody could write until it goes on (docs/guarantees.md)."""
    while True:
        process.suspend()
        _wait(process.pid)
        connection = sqlite3.connect(database, timeout=0.3, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            return
        except sqlite3.OperationalError:
            process.resume()
            time.sleep(0.05)
        finally:
            connection.close()


def _wait(pid: int) -> None:
    """Until all its threads stand still: one of them is told, and the others run on until that one gets a core."""
    while any(_state(task) not in "TtZX" for task in Path(f"/proc/{pid}/task").iterdir()):
        time.sleep(0.001)


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"  # it has ended meanwhile
