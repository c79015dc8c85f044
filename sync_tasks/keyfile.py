"""Secrets that an installation makes once for itself and keeps in its state directory."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from sync_tasks.errors import ControlError
from sync_tasks.settings import Settings

KEY_FILE = "secret.key"
FLOWER_FILE = "flower.password"
FLOWER_BYTES = 18  # of randomness in a password that is made: 24 characters


def service_key(settings: Settings) -> bytes:
    """The key that seals the addresses of all tasks of an installation.

    The one that is set; else, with the database in the state directory, <state_dir>/secret.key, made at first use.

    Raises:
        ControlError: `secret-key`: several machines may share the database, so they must be given one key.
    """
    given = settings.key()
    if given is not None:
        return given
    if settings.database_url is None:
        return kept(settings.state_dir / KEY_FILE, _new_key)
    raise ControlError(
        "the database may be shared, so its secret key must be given",
        code="secret-key",
        hint="make one with `keyferry config new-key`, and give it to every process in KEYFERRY_SECRET_KEY,"
        " or in a file that KEYFERRY_SECRET_KEY_FILE names",
    )


def flower_password(settings: Settings) -> str:
    """Flower's password: the one that is set, else <state_dir>/flower.password, made at first use."""
    if settings.flower_password is not None:
        return settings.flower_password.get_secret_value()
    return kept(settings.state_dir / FLOWER_FILE, lambda: secrets.token_urlsafe(FLOWER_BYTES).encode()).decode()


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """What the file holds; at first use what `make` makes, readable by its owner alone.

    The file appears whole or not at all, and processes that come at once agree on one.

    Raises:
        ControlError: it cannot be read or made.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes().strip()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path, make())
        return path.read_bytes().strip()
    except OSError as error:
        raise ControlError(
            f"cannot keep a secret in {path}: {error.strerror}",
            code="state-dir",
            hint="give a directory that you may write to with --state",
        ) from error


def _make(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content + b"\n")
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(part, path)  # unlike a rename it never replaces what another process has made meanwhile
    finally:
        os.unlink(part)


def _new_key() -> bytes:
    from sync_tasks.secrets import new_key

    return new_key()
