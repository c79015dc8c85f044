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
