"""Item: what a target of another version or line has no place for."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.facts import Facts
from sync_tasks.precheck.item import Answer, Item, passed, warning
from sync_tasks.precheck.scene import Scene

FIELD_TIMES = {"Redis": (7, 4), "Valkey": (9, 0)}
FUNCTIONS = {"Redis": (7, 0), "Valkey": (7, 2)}


def _ask(scene: Scene) -> Answer:
    source, target = scene.facts(Side.SOURCE), scene.facts(Side.TARGET)
    lacks, used = [], False
    if _since(source, FIELD_TIMES) and not _since(target, FIELD_TIMES):
        lacks.append("hash fields that expire come without their expiries, and go when the source removes them")
        used = source.field_times != 0
    if _since(source, FUNCTIONS) and not _since(target, FUNCTIONS):
        lacks.append("function libraries are not carried")
        used = used or source.libraries != 0
    if not lacks:
        return passed(f"{target.name} holds all that {source.name} has")
    what = f"{target.endpoint.address()} is {target.name}, the source {source.name}: {'; '.join(lacks)}"
    if not used:
        return passed(f"{what}; there are none now")
    return warning(what, "use a target of a version that has them, or go on without")


def _since(facts: Facts, first: dict[str, tuple[int, int]]) -> bool:
    return facts.version >= first[facts.product]


ITEM = Item(
    id="value-types",
    title="The target can hold every type of value",
    why="What an older target has no place for comes without it: counted, and named in the summary.",
    ask=_ask,
    warns=True,
)
