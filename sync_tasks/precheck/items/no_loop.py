"""Item: no chain of tasks brings what this one writes back to its source."""

from __future__ import annotations

from collections.abc import Mapping

from sync_tasks.errors import UsageError
from sync_tasks.precheck.item import Answer, Item, passed
from sync_tasks.precheck.scene import Route, Scene

DATABASES = range(256)


def _ask(scene: Scene) -> Answer:
    mine = Route("", scene.source.identity(), scene.target.identity(), scene.scope)
    starts = {(mine.source, db) for db in (DATABASES if mine.databases is None else mine.databases)}
    if (chain := _chain(mine, scene.others, starts)) is not None:
        raise UsageError(
            f"with {', '.join(chain)} it would make a loop: what it writes would come back to its source",
            hint="leave the databases out that go round, or end one of those tasks",
            code="loop",
        )
    return passed(f"{len(scene.others)} other tasks of this installation: none leads from the target to the source")


def _chain(mine: Route, others: tuple[Route, ...], starts: set[tuple[str, int]]) -> list[str] | None:
    """Names of the tasks by which a write comes back to where it began. Each database is followed by itself."""
    for server, db in sorted(starts):
        here = (mine.target, _mapped(mine.databases, db))
        seen = {here}
        ways: list[tuple[tuple[str, int | None], list[str]]] = [(here, [])]
        for place, names in ways:
            for other in others:
                there = (other.target, _mapped(other.databases, place[1]))
                if other.source != place[0] or there[1] is None or there in seen:
                    continue
                if there == (server, db):
                    return [*names, other.task]
                seen.add(there)
                ways.append((there, [*names, other.task]))
    return None


def _mapped(databases: Mapping[int, int] | None, db: int | None) -> int | None:
    """Where a database goes; None: nowhere."""
    return db if databases is None or db is None else databases.get(db)


ITEM = Item(
    id="no-loop",
    title="Tasks make no loop",
    why="In a loop every write comes round again and again, and counters never rest.",
    ask=_ask,
    needs=frozenset(),
)
