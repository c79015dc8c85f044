"""Which spool this is: its files can be read by those workers alone who see the same directory."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from sync_tasks.errors import ControlError
from sync_tasks.settings import Settings

NAME = "id"


def identity(settings: Settings) -> str | None:
    """12 hex digits, made at the first call and kept in the spool; None: all workers share the spool.

    Raises:
        ControlError: the directory cannot be written.
    """
    if settings.spool_shared:
        return None
    path = settings.spool / NAME
    try:
        settings.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        return path.read_text().strip()
    except OSError as error:
        raise ControlError(
            f"cannot use the spool {settings.spool}: {error.strerror}",
            hint="give a directory that Keyferry may write to with KEYFERRY_SPOOL_DIR",
            code="spool",
        ) from error


def _make(path: Path) -> None:
    """Whole or not at all, and once: several processes may begin together."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".id-")
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(6) + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)
