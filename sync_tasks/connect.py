"""From what a user names (a state directory, a database URL, or nothing) to an open store."""

from __future__ import annotations

import os
from pathlib import Path

from sync_tasks.access.scopes import ADMIN
from sync_tasks.errors import ControlError
from sync_tasks.secrets import SecretBox
from sync_tasks.settings import Settings
from sync_tasks.store import Store, migrate
from sync_tasks.supervise.directory import Directory
from sync_tasks.supervise.installation import check_database

Where = str | os.PathLike[str] | Settings | None


def settings_of(where: Where) -> Settings:
    """The settings of an installation; what is named counts more than the environment and the configuration file.

    Raises:
        UsageError: they cannot be read.
    """
    if where is None:
        return Settings()
    if isinstance(where, Settings):
        return where
    text = os.fspath(where)
    if "://" in text:
        return Settings(database_url=text)
    return Settings(state_dir=Path(text), database_url=None)


def opened(settings: Settings, key: bytes | None = None) -> Store:
    """The store of an installation; a state directory that holds none yet gets its database now.

    Raises:
        ControlError: the database cannot be used, or is not of this version.
    """
    url = settings.database()
    if settings.database_url is None and not has_tables(settings):
        Directory(settings.state_dir).attach()
        _make(database_file(settings))
        migrate(url)
    else:
        check_database(url)
    return Store(url, SecretBox(key))


def entered(store: Store, settings: Settings, account: str | None, token: str | None) -> tuple[str, str]:
    """The account as which a client comes, "" for the installation's own, and the scope of what it may do.

    Raises:
        ControlError: there is no such account, or the token is not known, has expired, or is another account's.
    """
    text = token or (settings.token.get_secret_value() if settings.token else None)
    name = account or settings.account or ""
    if text is not None:
        found = store.token(text)
        if name not in ("", found.account):
            raise ControlError(f"the token is not of account {name}", hint="leave the account out", code="token")
        return found.account, found.scope
    if name and name not in [one.name for one in store.accounts()]:
        raise ControlError(f"there is no account {name}", hint="see keyferry account list", code="no-account")
    return name, ADMIN


def database_file(settings: Settings) -> Path:
    """Where a state directory keeps its database."""
    return settings.state_dir.absolute() / "keyferry.db"


def _make(path: Path) -> None:
    """An empty file that is its owner's alone; SQLite gives those beside it the same permissions."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ControlError(
            f"cannot make {path}: {error.strerror}",
            code="state-dir",
            hint="give a state directory that you may write to, with room on its disk",
        ) from error


def has_tables(settings: Settings) -> bool:
    """Whether a state directory's database was set up. Makes nothing. Raises ControlError if it cannot be read."""
    if not database_file(settings).exists():
        return False
    store = Store(settings.database(), SecretBox())
    try:
        with store.database.read() as session:
            connection = session.connection()
            return connection.dialect.has_table(connection, "task")
    finally:
        store.dispose()
