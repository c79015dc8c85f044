"""The installation that a process belongs to: its settings made whole, its database looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sync_tasks.errors import ControlError
from sync_tasks.settings import Settings
from sync_tasks.supervise.directory import Directory

UPGRADE = "run keyferry db upgrade, with the same settings"


def chosen(state: Path | None, **given: Any) -> Settings:
    """Settings of the environment and the configuration file; what the command line gives counts more.

    Args:
        state: the directory; None: it was not given.
        given: other settings by name, likewise.

    Raises:
        UsageError: they cannot be read.
    """
    return Settings(**{name: value for name, value in {"state_dir": state, **given}.items() if value is not None})


def joined(state: Path | None, *, keyed: bool, **given: Any) -> Settings:
    """Settings of a process that takes part in an installation which others have set up.

    Args:
        state: the directory of the command line, if one is given.
        keyed: whether it opens the addresses of tasks.
        given: as of `chosen`.

    Raises:
        UsageError: the settings cannot be read.
        ControlError: the key is missing, or the database is not of this version.
    """
    settings = chosen(state, **given)
    found = whole(settings, attached(settings), keyed=keyed)
    check_database(found.database())
    return found


def attached(settings: Settings) -> Directory:
    """The state directory, made if anything of this installation lives there."""
    directory = Directory(settings.state_dir)
    if settings.broker_url is None or settings.database_url is None:
        directory.attach()
    return directory


def whole(settings: Settings, directory: Directory, *, keyed: bool = True) -> Settings:
    """With nothing left to find out, so that forked children agree: the key, the broker, no relative path.

    Raises:
        ControlError: `keyed`, and there is no key.
    """
    from pydantic import SecretStr

    from sync_tasks.keyfile import service_key

    found = settings.model_copy(update={"state_dir": directory.path})
    key = SecretStr(service_key(found).decode()) if keyed else found.secret_key
    return found.model_copy(
        update={
            "database_url": found.database(),
            "broker_url": found.broker_url or f"redis+socket://{directory.socket()}",
            "secret_key": key,
            "spool_dir": found.spool,
            "host": found.hostname,
        }
    )


def check_database(url: str) -> None:
    """See that the database has the tables of this version. Raises ControlError if it has not."""
    from sqlalchemy import text

    from sync_tasks.migrations import HEAD, KNOWN
    from sync_tasks.store.database import Database

    database = Database(url)
    try:
        with database.read() as session:
            connection = session.connection()
            there = connection.dialect.has_table(connection, "alembic_version")
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar() if there else None
    finally:
        database.dispose()
    if found == HEAD:
        return
    if found is None:
        raise ControlError("the database has no tables yet", code="old-database", hint=UPGRADE)
    if found in KNOWN:
        raise ControlError(
            f"the database is of an older version (revision {found}, here {HEAD})",
            code="old-database",
            hint=UPGRADE,
        )
    raise ControlError(
        f"the database is of a newer version (revision {found}, here {HEAD})",
        code="newer-state",
        hint="use the newer keyferry",
    )
