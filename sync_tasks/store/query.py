"""Statements that are run several times a second for as long as a task lives: what can be done once is done once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql.compiler import SQLCompiler

Row = tuple[Any, ...]


class Text(NamedTuple):
    """A statement for one kind of database. `order`: names of parameters, where the driver wants them in order."""

    sql: str
    values: dict[str, Any]
    order: Sequence[str] | None


class Query:
    """A statement as the driver takes it. Run by SQLAlchemy it costs some ten times as much, each time.

    Args:
        statement: what differs from one time to the next are its `bindparam`s.
    """

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._texts: dict[str, Text] = {}  # by dialect

    def rows(self, connection: PoolProxiedConnection, dialect: Dialect, values: dict[str, Any]) -> list[Row]:
        """All rows, as the driver gives them: on SQLite truth is 0 or 1, and JSON and moments are text.

        Args:
            values: of all `bindparam`s by name.
        """
        text = self._texts.get(dialect.name) or self._make(dialect, values)
        given = text.values | values
        cursor = connection.cursor()
        try:
            cursor.execute(text.sql, given if text.order is None else [given[name] for name in text.order])
            return list(cursor.fetchall())
        finally:
            cursor.close()

    def _make(self, dialect: Dialect, values: dict[str, Any]) -> Text:
        compiled = self._statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        made = compiled.construct_expanded_state(values)
        return self._texts.setdefault(dialect.name, Text(made.statement, dict(made.parameters), made.positiontup))
