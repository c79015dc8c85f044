"""What a database answers, as errors of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from sync_tasks.errors import DATABASE, ControlError, KeyferryError, Retry, SpoolFull

DISK_FULL = "53100"
NO_TABLE = "42P01"
"""Codes of PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html"""


@contextmanager
def translated() -> Iterator[None]:
    """Raise what a database raises within as ControlError or SpoolFull; a retry may help."""
    try:
        yield
    except KeyferryError:
        raise
    except SQLAlchemyError as error:
        raise explain(error) from error


def explain(error: SQLAlchemyError) -> KeyferryError:
    """An error of the database without its SQL, in one line."""
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlstate", None)
    text = str(cause or type(error).__name__).strip()
    if code == DISK_FULL:
        return SpoolFull("no space left on the disk of the database", hint="free some: the work goes on by itself")
    if "disk is full" in text:
        return SpoolFull(
            "no space left on the disk of the state directory", hint="free some: the work goes on by itself"
        )
    hint = "check that its file or server can be reached and written"
    if "no such table" in text or code == NO_TABLE:
        hint = "it was not set up: give the state directory of a task, or an empty one"
    said = text.splitlines()[0][:200]
    return ControlError(f"the database answers: {said}", hint=hint, code=DATABASE, retry=Retry.OTHER)
