"""Item: the target has the source's modules."""

from __future__ import annotations

from typing import Any

from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Item, passed, warning
from sync_tasks.precheck.scene import Scene

BUILT_IN = {"vectorset": "vectorset"}
"""Modules that every server of a version has, used or not, and how TYPE calls their values."""
WITHOUT_VALUES = {"lua"}
"""Engines of scripts: a target of any version has one, as a module or not."""
LOOKS = 20  # pages of SCAN
PAGE = 1000


def _in_use(scene: Scene, name: str) -> bool:
    """Whether there is such a value among the first of each database."""
    return scene.ask(Side.SOURCE, lambda client: any(_found(client, name, db) for db in scene.facts(Side.SOURCE).keys))


def _found(client: Any, name: str, db: int) -> bool:
    with client.client() as connection:
        connection.execute_command("SELECT", db)
        cursor = 0
        for _ in range(LOOKS):
            cursor, page = connection.execute_command("SCAN", cursor, "COUNT", PAGE, "TYPE", BUILT_IN[name])
            if page or int(cursor) == 0:
                return bool(page)
    return False


def _ask(scene: Scene) -> Answer:
    source, target = scene.facts(Side.SOURCE), scene.facts(Side.TARGET)
    missing = sorted(source.modules - target.modules - WITHOUT_VALUES)
    if missing and all(name in BUILT_IN and not _in_use(scene, name) for name in missing):
        return passed(f"no value of those that the target lacks ({', '.join(missing)}) was found")
    if not missing:
        return passed("the source has none" if not source.modules else ", ".join(sorted(source.modules)))
    return warning(
        f"{target.endpoint.address()} lacks modules of the source ({', '.join(missing)}): their values are refused"
        " there, their keys copied in vain",
        "load the modules there (MODULE LOAD), or leave those databases out",
    )


ITEM = Item(
    id="modules",
    title="The target has the source's modules",
    why="A value of a module travels as it is, and only the module can read it.",
    ask=_ask,
    warns=True,
)
