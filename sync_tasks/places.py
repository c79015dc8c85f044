"""Where an end of a task is: a URL, or the name of an instance that is registered."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

from sync_tasks.errors import Side, UsageError

SCHEME = "instance://"
FORM = "instance://NAME, instance://NAME/3, or instance://NAME/3?account=OWNER&role=ROLE"


@dataclass(frozen=True, slots=True)
class Named:
    """An instance, and the database of it that is meant; of another account, with the role that lets us use it."""

    name: str
    db: int | None = None
    account: str | None = None
    role: str | None = None


def named(text: str, side: Side) -> Named | None:
    """What `instance://NAME[/db][?account=OWNER&role=ROLE]` says; None: it is a URL. Raises UsageError."""
    if not text.startswith(SCHEME):
        return None
    place, _, query = text.removeprefix(SCHEME).partition("?")
    name, slash, db = place.partition("/")
    pairs = parse_qsl(query, keep_blank_values=True)
    more = dict(pairs)
    wrong_db = slash and not (db.isascii() and db.isdigit() and int(db) < 256)
    if not name or wrong_db or more.keys() not in (set(), {"account", "role"}) or len(pairs) != len(more):
        raise UsageError(f"the {side.value} is no instance: {text}", hint=f"write {FORM}", code="url")
    return Named(name, int(db) if slash else None, more.get("account"), more.get("role"))
