"""Engines for SQLite and PostgreSQL: what was measured in each, and how long each may keep us waiting."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from sync_tasks.errors import DATABASE, ControlError

BUSY_TIMEOUT_MS = 15_000

WAL = "PRAGMA journal_mode=WAL"
"""Several processes read while one writes; a crash of ours loses nothing."""

PRAGMAS = (
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    # A lease's epoch and a snapshot's number, once used on a target, must outlive a power cut.
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
)

STALLED_MS = 5_000
"""A process that stops in mid-transaction holds its locks: PostgreSQL ends its session after so long. Longer
than the scheduler waits for a beat, so that only those lose it who have lost their leases too."""

SESSION = {"lock_timeout": BUSY_TIMEOUT_MS, "idle_in_transaction_session_timeout": STALLED_MS}
"""Settings of a session on PostgreSQL, in ms."""

LIBPQ: dict[str, str | int] = {
    "application_name": "keyferry",
    "connect_timeout": 10,  # s
    # A server that is gone without a word is noticed after some 20 s. Nothing to say to on a unix socket.
    "keepalives_idle": 5,  # s
    "keepalives_interval": 5,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # ms
}
"""Parameters of a connection to PostgreSQL. What the URL says itself goes before these and `SESSION`."""


def engines(text: str) -> tuple[Engine, Engine]:
    """One to read and one to write by; they may share their connections.

    Args:
        text: SQLAlchemy URL of SQLite or PostgreSQL.

    Raises:
        ControlError: of neither, or the driver is not installed.
    """
    url = _parse(text)
    try:
        return _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url)
    except ModuleNotFoundError as error:
        raise ControlError(
            f"the driver of the database is missing: {error.name}",
            hint="pip install 'keyferry[postgresql]', and begin the URL with postgresql+psycopg://",
            code=DATABASE,
        ) from None


def _parse(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        url = None
    if url is not None and url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url is None or url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ControlError(
            "the database URL cannot be read",
            hint="write sqlite:////path or postgresql+psycopg://...",
            code=DATABASE,
        )
    return url


def _sqlite(url: URL) -> tuple[Engine, Engine]:
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN, not the driver
        for pragma in PRAGMAS:
            connection.execute(pragma)
        switch_to_wal(connection)

    @event.listens_for(engine, "begin")
    def begun(connection: Any) -> None:
        # A deferred BEGIN that writes later fails with "database is locked" without waiting.
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"))

    return engine.execution_options(begin="BEGIN"), engine


def switch_to_wal(connection: sqlite3.Connection) -> None:
    """Have a write-ahead log. Of several that open a new file at once some find it locked, whatever the timeout."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute(WAL)
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _postgresql(url: URL) -> tuple[Engine, Engine]:
    session = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
    wanted = {**LIBPQ, "options": session}
    writer = create_engine(
        url,
        connect_args={name: value for name, value in wanted.items() if name not in url.query},
        # Whoever reads what it will write locks it first: see `locks`.
        isolation_level="READ COMMITTED",
        # A server that was restarted since costs no transaction.
        pool_pre_ping=True,
        # We have no such column; asking for the type costs each new connection a query.
        use_native_hstore=False,
    )
    reader = writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return reader, writer
