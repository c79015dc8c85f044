"""Which source databases travel, and to which target database."""

from __future__ import annotations


class Scope:
    """The mapping of databases.

    Args:
        databases: source to target number; None means all, each to its own.
    """

    def __init__(self, databases: dict[int, int] | None) -> None:
        self.databases = databases

    def target(self, db: int) -> int | None:
        return db if self.databases is None else self.databases.get(db)
