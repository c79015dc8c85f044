"""Databases of both kinds that tests share: emptied before each, which is quicker than a new one.

Their `database` keeps its connections, and the statements that it has compiled, from test to test.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.engine import make_url

from sync_tasks.models import Base
from sync_tasks.store import migrate
from sync_tasks.store.database import Database


class Emptied(Protocol):
    """A database with all tables."""

    url: str
    database: Database

    def clear(self) -> None:
        """No rows, ids from 1, and none who still holds a lock."""

    def close(self) -> None:
        """Close all connections."""


class Sqlite:
    """A file in a directory of its own."""

    def __init__(self, place: Path) -> None:
        self.url = f"sqlite:///{place}/keyferry.db"
        self.database = Database(self.url)
        migrate(self.url)

    def clear(self) -> None:
        with self.database.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(table.delete())

    def close(self) -> None:
        self.database.dispose()


class Postgresql:
    """A database of a server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = Database(url)
        self._connection = connected(url)
        migrate(url)

    def cut(self) -> int:
        """End the connections that stores have to it; how many there were."""
        return int(
            self._connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'keyferry'"
            ).fetchone()[0]
        )

    def clear(self) -> None:
        import psycopg

        tables = Base.metadata.sorted_tables
        steps = ["SET lock_timeout = '1s'", *(f"DELETE FROM {table.name}" for table in reversed(tables))]
        steps += [f"SELECT setval('{table.name}_id_seq', 1, false)" for table in tables if "id" in table.c]
        try:
            self._connection.execute("; ".join(steps))
        except psycopg.errors.LockNotAvailable:
            self.cut()
            self._connection.execute("; ".join(steps))

    def close(self) -> None:
        self._connection.close()
        self.database.dispose()


@contextmanager
def created(server: str) -> Iterator[str]:
    """URL of a new database on a PostgreSQL server; dropped at the end."""
    name = f"keyferry_{secrets.token_hex(4)}"
    with connected(server) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield make_url(server).set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def connected(url: str) -> Any:
    """A connection of the driver's own, autocommitting."""
    import psycopg

    parts = make_url(url)
    return psycopg.connect(host=str(parts.query["host"]), user=parts.username, dbname=parts.database, autocommit=True)
