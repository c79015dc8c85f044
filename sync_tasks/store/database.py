"""Transactions, and what a fork must not inherit."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Protocol

from sqlalchemy import Dialect, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from sync_tasks.store.engines import engines
from sync_tasks.store.query import Query, Row
from sync_tasks.store.trouble import translated

_open: weakref.WeakSet[Database] = weakref.WeakSet()
_hooked = False


class Rows(Protocol):
    """Runs a query with these values of its parameters; what it finds, as `Query.rows` gives it."""

    def __call__(self, query: Query, **values: Any) -> list[Row]: ...


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
        with translated():
            reader, _ = self._engines()
            with Session(reader, autoflush=False, expire_on_commit=False) as session:
                yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction, committed at the end, rolled back on an error.

        On SQLite no other writer comes between; on PostgreSQL that holds for the rows that it locks: see `locks`.
        """
        with translated():
            _, writer = self._engines()
            with Session(writer, expire_on_commit=False) as session, session.begin():
                yield session

    @contextmanager
    def rows(self) -> Iterator[Rows]:
        """For what is asked or said several times a second. Each query is a transaction of its own on SQLite; those of
        one block share one on PostgreSQL, in which each sees what was committed before it.
        """
        with translated():
            _, engine = self._engines()
            dialect = engine.dialect
            try:
                with closing(engine.raw_connection()) as connection, invalidated(connection, dialect):
                    yield lambda query, **values: query.rows(connection, dialect, values)
                    connection.commit()
            except dialect.loaded_dbapi.Error as error:
                raise DBAPIError(None, None, error) from error

    def engine(self) -> Engine:
        """The writing engine."""
        return self._engines()[1]

    @property
    def sqlite(self) -> bool:
        """Whether one writer at a time is all the database can do anyway."""
        return self.url.startswith("sqlite")

    @contextmanager
    def in_memory(self) -> Iterator[None]:
        """Of SQLite alone: within the block there is an empty database instead, and nothing of it afterwards."""
        engine = self.engine()
        event.listen(engine, "do_connect", _in_memory)
        try:
            yield
        finally:
            event.remove(engine, "do_connect", _in_memory)
            self.close_idle()

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
                if self._reader is None or self._writer is None:
                    self._make()
                elif self._pid != os.getpid():
                    self._inherit()
        assert self._reader is not None
        assert self._writer is not None
        return self._reader, self._writer

    def _make(self) -> None:
        self._reader, self._writer = engines(self.url)
        self._pid = os.getpid()
        _open.add(self)
        _hook()

    def _inherit(self) -> None:
        """After a fork: what the parent has compiled is of use here, its connections are not."""
        for engine in (self._reader, self._writer):
            assert engine is not None
            engine.dispose(close=False)  # only our copy of the file descriptors may go
        self._pid = os.getpid()

    def _forget(self) -> None:
        for engine in {self._reader, self._writer} - {None}:
            assert engine is not None
            # Of a parent's connections only our copy of the file descriptors may go.
            engine.dispose(close=self._pid == os.getpid())
        self._reader = self._writer = None


@contextmanager
def invalidated(connection: PoolProxiedConnection, dialect: Dialect) -> Iterator[None]:
    """One that has failed goes back to no pool, which would ask it for a rollback first, and log that it is cut."""
    try:
        yield
    except dialect.loaded_dbapi.Error as error:
        connection.invalidate(error)
        raise


def _in_memory(dialect: Dialect, _record: ConnectionPoolEntry, _args: Any, options: Any) -> DBAPIConnection:
    return dialect.connect(":memory:", **options)


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
