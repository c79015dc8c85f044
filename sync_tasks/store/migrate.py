"""Bring a database to the tables of this version."""

from __future__ import annotations

from sqlalchemy import Connection, text

from sync_tasks.errors import ControlError
from sync_tasks.migrations import HEAD, KNOWN
from sync_tasks.models import Base
from sync_tasks.store.database import Database

LOCK = int.from_bytes(b"keyferry")
"""Of PostgreSQL's advisory locks the one that guards the tables themselves."""


def migrate(url: str) -> None:
    """Create the tables, or upgrade older ones; what is of this version already costs one query.

    Raises:
        ControlError: the database is of a newer version, or cannot be used.
    """
    database = Database(url)
    try:
        bring(database)
    finally:
        database.dispose()


def bring(database: Database) -> None:
    """`migrate` on an open database."""
    with database.write() as session:
        connection = session.connection()
        if not database.sqlite:
            # There may be no row yet to lock: several processes that start together go one by one.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        found = _revision(connection)
        if found is None:
            _create(connection)
        elif found and found not in KNOWN:
            raise ControlError(
                f"the state directory is of a newer version (database revision {found}, here {HEAD})",
                hint="use the newer keyferry, or another --state directory",
                code="newer-state",
            )
        elif found != HEAD:
            _upgrade(connection)


def _revision(connection: Connection) -> str | None:
    """The revision stamped; "" for a table without one; None for a fresh database."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def _create(connection: Connection) -> None:
    Base.metadata.create_all(connection)
    # As Alembic would: importing it costs a third of a second, which the usual start does not have.
    connection.execute(
        text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
            " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "sync_tasks:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
