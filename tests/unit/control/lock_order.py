"""Holds every transaction on PostgreSQL to the order of `sync_tasks.store.locks`, by the SQL that it sends.

A deadlock needs two transactions that meet; this needs one that breaks the rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event

ROWS = ("node", "chunk", "retry_window", "op")  # of a task
SELECT = re.compile(r"FROM (\w+).* FOR UPDATE( SKIP LOCKED)?\s*$", re.DOTALL)
WRITE = re.compile(r"(UPDATE|DELETE FROM|INSERT INTO) (\w+)")
NO_ROW = re.compile(r"IN \([(NUL, )]+\) AND \(1 != 1\)")  # IN an empty list
ONE_ROW = re.compile(r"WHERE \w+\.(id|name) = %")


def _began(connection: Connection) -> None:
    connection.info["held"] = set()


def _sent(connection: Connection, _cursor: Any, statement: str, _given: Any, _context: Any, many: bool) -> None:
    held: set[str] = connection.info.setdefault("held", set())
    if NO_ROW.search(statement):
        return
    if found := SELECT.search(statement):
        _take(held, found[1], statement, waits=not found[2], one=bool(ONE_ROW.search(statement)) or bool(found[2]))
        held.add(f"{found[1]} rows")
    elif found := WRITE.match(statement):
        verb, table = found[1], found[2]
        if verb == "INSERT INTO":
            # A new row is nobody's; but its foreign key takes a share of the task's lock.
            _take(held, "task", statement) if table in ROWS or table == "event" else held.add(table)
        elif table != "event":
            _take(held, table, statement, one=bool(ONE_ROW.search(statement)) and not many)


def _take(held: set[str], table: str, statement: str, *, waits: bool = True, one: bool = True) -> None:
    if table not in held and waits:
        later = {"lease": {"task", *ROWS}, "task": set(ROWS)}.get(table, set()) & held
        assert not later, f"{table} is locked after {later}: {statement}"
    if table in ROWS:
        assert one or {"task", f"{table} rows"} & held, f"several rows without their task: {statement}"
    if table == "lease" and "UPDATE lease" in statement:
        assert one or "lease rows" in held, f"several leases in no order: {statement}"
    held.add(table)


@contextmanager
def watched() -> Iterator[None]:
    """Within, a transaction that breaks the order fails; those of forked processes too."""
    event.listen(Engine, "begin", _began)
    event.listen(Engine, "before_cursor_execute", _sent)
    try:
        yield
    finally:
        event.remove(Engine, "begin", _began)
        event.remove(Engine, "before_cursor_execute", _sent)
