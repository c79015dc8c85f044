"""Where an end of a task is: a URL, or the name of an instance that is registered."""

from __future__ import annotations

from dataclasses import dataclass

from sync_tasks.errors import Side, UsageError

SCHEME = "instance://"


@dataclass(frozen=True, slots=True)
class Named:
    """An instance, and the database of it that is meant."""

    name: str
    db: int | None


def named(text: str, side: Side) -> Named | None:
    """What `instance://NAME[/db]` says; None: it is a URL. Raises UsageError if the database is none."""
    if not text.startswith(SCHEME):
        return None
    name, slash, db = text.removeprefix(SCHEME).partition("/")
    if slash and not (db.isascii() and db.isdigit() and int(db) < 256):
        raise UsageError(
            f"the {side.value} names no database: {text}", hint="write instance://NAME or instance://NAME/3", code="url"
        )
    return Named(name, int(db) if slash else None)
