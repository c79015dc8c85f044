"""Which databases are compared with which."""

from __future__ import annotations

from workers.verify.findings import Pair
from workers.verify.sides import Sides


def pairs(sides: Sides, databases: dict[int, int] | None) -> list[Pair]:
    """Databases in scope that hold keys on either side, now.

    Args:
        databases: source to target number; None: all, each to its own.
    """
    ours, theirs = sides.source.keys_by_db(), sides.target.keys_by_db()
    if databases is None:
        return [Pair(db, db) for db in sorted(ours.keys() | theirs.keys())]
    return [Pair(s, t) for s, t in sorted(databases.items()) if s in ours or t in theirs]


def expected_keys(sides: Sides, scope: list[Pair]) -> int:
    """Keys that will be walked on both sides together, about."""
    ours, theirs = sides.source.keys_by_db(), sides.target.keys_by_db()
    return sum(ours.get(pair.source, 0) + theirs.get(pair.target, 0) for pair in scope)
