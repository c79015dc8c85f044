"""Databases of the target that are known to exist: a SELECT that fails inside MULTI does not stop what is behind it."""

from __future__ import annotations

from sync_tasks.errors import TargetError
from workers.codec.resp_cy import ReplyError
from workers.scope import Scope
from workers.target.link import TargetLink
from workers.target.windows import Window


def holding(link: TargetLink, scope: Scope) -> list[int]:
    """Those in scope that hold keys."""
    text: bytes = link.ask(b"INFO", b"keyspace")
    full = [int(line[2 : line.index(b":")]) for line in text.splitlines() if line.startswith(b"db")]
    if scope.databases is None:
        return full
    return [db for db in full if db in scope.databases.values()]


class Databases:
    """Those whose SELECT was answered on one connection.

    Args:
        link: the connection, in `home`.
        home: a database that exists.
    """

    def __init__(self, link: TargetLink, home: int) -> None:
        self._link, self._home = link, home
        self._proven = {home}

    def unproven(self, window: Window) -> set[int]:
        """Those that a window names and that are not proven yet."""
        return window.databases - self._proven

    def prove(self, databases: set[int]) -> None:
        """See the answer, before a window may name it. Nothing may be in flight. Raises TargetError."""
        for db in sorted(databases - self._proven):
            answer = self._link.try_all([[b"SELECT", db], [b"SELECT", self._home]])[0]
            if isinstance(answer, ReplyError):
                raise TargetError(
                    f"the target has no database {db}: {answer.line.decode(errors='replace')}",
                    hint="raise `databases` in the target's configuration, or leave that database out of the task",
                )
            self._proven.add(db)
