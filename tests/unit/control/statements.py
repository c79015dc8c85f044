"""Counts what a piece of code asks of a database, by SQLAlchemy and past it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from sync_tasks.store.database import Database
from sync_tasks.store.query import Query, Row


class Statements:
    """Those sent since the last `clear`. `dear`: by SQLAlchemy, which takes ten times as long for each."""

    def __init__(self) -> None:
        self.dear: list[str] = []
        self.cheap: list[Query] = []

    def __len__(self) -> int:
        return len(self.dear) + len(self.cheap)

    def clear(self) -> None:
        self.dear.clear()
        self.cheap.clear()


@contextmanager
def counted(database: Database) -> Iterator[Statements]:
    """Those sent to this database within the block; the ones that begin something do not count."""
    statements = Statements()
    plain = Query.rows

    def rows(query: Query, *args: Any) -> list[Row]:
        statements.cheap.append(query)
        return plain(query, *args)

    def sent(*args: Any) -> None:
        if not args[2].startswith(("BEGIN", "SAVEPOINT")):
            statements.dear.append(args[2])

    event.listen(database.engine(), "before_cursor_execute", sent)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Query, "rows", rows)
            yield statements
    finally:
        event.remove(database.engine(), "before_cursor_execute", sent)
