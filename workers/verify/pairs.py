"""How much there would be to compare."""

from __future__ import annotations

from sync_tasks.endpoints import Endpoint
from workers.verify.server import Server


def keys_in_scope(source: Endpoint, target: Endpoint, databases: dict[int, int] | None) -> tuple[int, int]:
    """Keys of both sides in the databases that are compared, about.

    Args:
        databases: source to target number; None: all.
    """
    ours, theirs = _count(source), _count(target)
    if databases is None:
        return sum(ours.values()), sum(theirs.values())
    return sum(ours.get(db, 0) for db in databases), sum(theirs.get(db, 0) for db in set(databases.values()))


def _count(endpoint: Endpoint) -> dict[int, int]:
    server = Server(endpoint)
    try:
        return server.keys_by_db()
    finally:
        server.close()
