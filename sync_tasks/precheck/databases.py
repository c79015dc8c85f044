"""Items: the databases in scope exist on the target, and are empty there unless the user says otherwise."""

from __future__ import annotations

from typing import Any

from sync_tasks import names
from sync_tasks.errors import Side
from sync_tasks.precheck.facts import Facts, refusal

LOOKS = 20  # pages of SCAN spent on finding a key that is not ours
PAGE = 1000


def check_exist(client: Any, facts: Facts, wanted: set[int]) -> None:
    """SELECT is the only question that every user may ask. Raises SourceError or TargetError."""
    from redis import ResponseError

    side = facts.endpoint.side
    with client.client() as connection:
        for db in sorted(wanted, reverse=True):
            try:
                connection.execute_command("SELECT", db)
            except ResponseError as error:
                if "out of range" not in str(error) and "invalid DB index" not in str(error):
                    raise
                hint = (
                    f"raise 'databases' in the target's configuration above {db}, or map {db} elsewhere"
                    if side is Side.TARGET
                    else "name a database that the source has"
                )
                raise refusal(
                    side, f"{facts.endpoint.address()} has no database {db}", hint, "no-such-database"
                ) from error


def check_empty(client: Any, target: Facts, scope: set[int] | None) -> None:
    """No key but those of Keyferry itself in the target's databases of `scope` (None: all).

    Raises:
        TargetError: there are keys.
    """
    for db, keys in sorted(target.keys.items()):
        if (scope is None or db in scope) and keys and _has_foreign_key(client, db):
            raise refusal(
                Side.TARGET,
                f"{target.endpoint.address()}: database {db} is not empty, it holds {keys} keys",
                'empty it, or set conflict_mode = "ignore-and-proceed" to overwrite keys of the same name',
                "target-not-empty",
            )


def _has_foreign_key(client: Any, db: int) -> bool:
    with client.client() as connection:
        connection.execute_command("SELECT", db)
        cursor = 0
        for _ in range(LOOKS):
            cursor, page = connection.scan(cursor, count=PAGE)
            if any(not key.startswith(names.KEY_PREFIX) for key in page):
                return True
            if int(cursor) == 0:
                return False
    return True  # Keyferry never leaves that many keys: what was not seen is somebody's
