"""Item: what a target of another version or line has no place for."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from sync_tasks.errors import Side
from sync_tasks.precheck.facts import Facts
from sync_tasks.precheck.item import Answer, Item, passed, warning
from sync_tasks.precheck.scene import Scene

FIELD_TIMES = {"Redis": (7, 4), "Valkey": (9, 0)}
FUNCTIONS = {"Redis": (7, 0), "Valkey": (7, 2)}
PRODUCERS = {"Redis": (8, 6)}
ARRAYS = {"Redis": (8, 8)}
ARRAY = "array"
"""As TYPE calls it."""
FOR_S = 2.0
PAGE = 1000


def _ask(scene: Scene) -> Answer:
    source, target = scene.facts(Side.SOURCE), scene.facts(Side.TARGET)
    lacks, used = [], False
    if _since(source, FIELD_TIMES) and not _since(target, FIELD_TIMES):
        lacks.append("hash fields that expire come without their expiries, and go when the source removes them")
        used = source.field_times != 0
    if _since(source, FUNCTIONS) and not _since(target, FUNCTIONS):
        lacks.append("function libraries are not carried")
        used = used or source.libraries != 0
    if _since(source, PRODUCERS) and not _since(target, PRODUCERS):
        lacks.append("streams come without the ids that they remember of producers")
    if _since(source, ARRAYS) and not _since(target, ARRAYS):
        lacks.append("pending entries of streams that belong to nobody are left out")
        lacks.append("arrays cannot be carried, and the task stops at one")
        if found := scene.ask(Side.SOURCE, partial(_array, scene, source)):
            return warning(
                f"{source.endpoint.address()} has an array, {found}; {target.name} cannot: the task stops at it",
                "name a target that has arrays (Redis 8.8), filter such keys out, or delete them on the source",
            )
    if not lacks:
        return passed(f"{target.name} holds all that {source.name} has")
    what = f"{target.endpoint.address()} is {target.name}, the source {source.name}: {'; '.join(lacks)}"
    if not used:
        return passed(f"{what}; none are known of now")
    return warning(what, "use a target of a version that has them, or go on without")


def _since(facts: Facts, first: dict[str, tuple[int, int]]) -> bool:
    return facts.product in first and facts.version >= first[facts.product]


def _array(scene: Scene, source: Facts, client: Any) -> str:
    """An array in scope, as far as one is found in short time; empty: none was."""
    by = time.monotonic() + FOR_S
    with client.client() as here:
        for db in sorted(source.keys if scene.scope is None else source.keys.keys() & scene.scope.keys()):
            here.execute_command("SELECT", db)
            cursor, first = 0, True
            while (cursor or first) and time.monotonic() < by:
                cursor, page = here.scan(cursor, count=PAGE, _type=ARRAY)
                first = False
                for key in page:
                    if scene.spec.filter.of(db).takes(key):
                        return f"{key[:60].decode(errors='backslashreplace')} of database {db}"
    return ""


ITEM = Item(
    id="value-types",
    title="The target can hold every type of value",
    why="What an older target has no place for comes without it: counted, and named in the summary.",
    ask=_ask,
    warns=True,
)
