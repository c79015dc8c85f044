"""Engines and transactions: what was measured in SQLite, and what a fork must not inherit."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from sync_tasks.errors import ControlError, KeyferryError, Retry, SpoolFull

BUSY_TIMEOUT_MS = 15_000

PRAGMAS = (
    # First: switching to WAL below waits too, when several processes open a new file.
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    # Several processes read while one writes; a crash of ours loses nothing.
    "PRAGMA journal_mode=WAL",
    # A power cut may lose the last commits, never tear the file; the target holds the checkpoint.
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
)

_open: weakref.WeakSet[Database] = weakref.WeakSet()
_hooked = False


class Database:
    """Short transactions on one database, made lazily in each process.

    Args:
        url: SQLAlchemy URL of SQLite or PostgreSQL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._pid = 0
        self._reader: Engine | None = None
        self._writer: Engine | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "Database()"  # the URL may hold a password

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database and writes nothing."""
        with _translated():
            reader, _ = self._engines()
            with Session(reader, autoflush=False, expire_on_commit=False) as session:
                yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that no other writer comes between; committed at the end, rolled back on an error."""
        with _translated():
            _, writer = self._engines()
            with Session(writer, expire_on_commit=False) as session, session.begin():
                yield session

    def engine(self) -> Engine:
        """The writing engine, for migrations."""
        return self._engines()[1]

    @property
    def sqlite(self) -> bool:
        """Whether one writer at a time is all the database can do anyway."""
        return self.url.startswith("sqlite")

    def close_idle(self) -> None:
        """Close pooled connections; the next transaction opens new ones."""
        for engine in (self._reader, self._writer):
            if engine is not None and self._pid == os.getpid():
                engine.dispose()

    def dispose(self) -> None:
        """Close and forget everything. Safe before and after a fork."""
        with self._lock:
            self._forget()

    def _engines(self) -> tuple[Engine, Engine]:
        if self._pid != os.getpid() or self._reader is None or self._writer is None:
            with self._lock:
                if self._pid != os.getpid() or self._reader is None or self._writer is None:
                    self._forget()
                    self._make()
        assert self._reader is not None
        assert self._writer is not None
        return self._reader, self._writer

    def _make(self) -> None:
        try:
            url = make_url(self.url)
        except ArgumentError:
            raise ControlError(
                "the database URL cannot be read",
                hint="write sqlite:////path or postgresql+psycopg://...",
                code="database",
            ) from None
        self._writer = create_engine(url)
        if self.sqlite:
            self._reader = create_engine(url)
            _tune(self._writer, "BEGIN IMMEDIATE")
            _tune(self._reader, "BEGIN")
        else:
            self._reader = self._writer
        self._pid = os.getpid()
        _open.add(self)
        _hook()

    def _forget(self) -> None:
        for engine in {self._reader, self._writer} - {None}:
            assert engine is not None
            # Of a parent's connections only our copy of the file descriptors may go.
            engine.dispose(close=self._pid == os.getpid())
        self._reader = self._writer = None


def _tune(engine: Engine, begin: str) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN, not the driver
        for pragma in PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def begun(connection: Any) -> None:
        # A deferred BEGIN that writes later fails with "database is locked" without waiting.
        connection.exec_driver_sql(begin)


def _hook() -> None:
    """Close idle connections before each fork.

    SQLite keeps its locks per process: a child with a parent's open file would believe it held them, and the
    last one to leave could then delete the log of writes under it.
    """
    global _hooked
    if not _hooked:
        _hooked = True
        os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _before_fork() -> None:
    for database in list(_open):
        database.close_idle()


def _after_fork() -> None:
    for database in list(_open):
        database._lock = threading.Lock()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except KeyferryError:
        raise
    except SQLAlchemyError as error:
        raise _explain(error) from error


def _explain(error: SQLAlchemyError) -> KeyferryError:
    cause = str(getattr(error, "orig", None) or type(error).__name__)
    if "disk is full" in cause:
        return SpoolFull(
            "no space left on the disk of the state directory", hint="free some: the work goes on by itself"
        )
    hint = "check that its file or server can be reached and written"
    if "no such table" in cause or "does not exist" in cause:
        hint = "it was not set up: give the state directory of a task, or an empty one"
    return ControlError(
        f"the database answers: {cause.splitlines()[0][:200]}", hint=hint, code="database", retry=Retry.OTHER
    )
