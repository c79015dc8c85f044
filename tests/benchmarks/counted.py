"""What is asked of PostgreSQL and of the broker, counted by themselves."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import NullPool, create_engine, text

from tests.servers import Server

COUNTING = {"shared_preload_libraries": "pg_stat_statements", "track_activity_query_size": "4096"}
"""Settings that PostgreSQL needs to count."""

CALLS = """
SELECT (SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query !~ '^(BEGIN|COMMIT|ROLLBACK|SET|$)'),
       (SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'postgres'),
       (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'keyferry')
"""


@dataclass(frozen=True, slots=True)
class Rates:
    """Statements and transactions a task and second, messages a second in all, connections at the end."""

    statements: float
    transactions: float
    messages: float
    connections: int

    def __str__(self) -> str:
        return (
            f"{self.statements:.2f} statements and {self.transactions:.2f} transactions a task and second, "
            f"{self.messages:.1f} messages a second in all, {self.connections} connections"
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """So far: when, statements and transactions of the database, connections to it now, messages sent."""

    at: float
    statements: int
    transactions: int
    connections: int
    messages: int

    def since(self, before: Asked, tasks: int) -> Rates:
        """What so many tasks have asked for meanwhile."""
        took = self.at - before.at
        return Rates(
            (self.statements - before.statements) / took / tasks,
            (self.transactions - before.transactions) / took / tasks,
            (self.messages - before.messages) / took,
            self.connections,
        )



class Counted:
    """Looks at the counters.

    Args:
        database_url: of a PostgreSQL with `COUNTING`.
        broker: a Redis.
    """

    def __init__(self, database_url: str, broker: Server) -> None:
        self._engine = create_engine(database_url, poolclass=NullPool)
        self._broker = broker.client()
        with self._engine.begin() as connection:
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_stat_statements"))

    def now(self) -> Asked:
        with self._engine.connect() as connection:
            statements, transactions, connections = connection.execute(text(CALLS)).one()
        pushed = self._broker.info("commandstats").get("cmdstat_lpush", {"calls": 0})
        return Asked(time.monotonic(), int(statements), int(transactions), connections, int(pushed["calls"]))
