"""Item: databases that are merged into one have no key in common."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from sync_tasks.errors import Side
from sync_tasks.precheck.facts import refusal
from sync_tasks.precheck.item import Answer, Item, passed, skipped, warning
from sync_tasks.precheck.scene import Scene

FOR_S = 3.0
PAGE = 1000
SHOWN = 3


def _ask(scene: Scene) -> Answer:
    merged = [group for group in _groups(scene) if len(group) > 1]
    if not merged:
        return skipped("no databases are merged")
    by = time.monotonic() + FOR_S
    for group in merged:
        for smaller, larger in _pairs(group, scene.facts(Side.SOURCE).keys):
            over = scene.ask(Side.SOURCE, partial(_compare, scene, smaller, larger, by))
            if not over:
                return warning(
                    f"databases {smaller} and {larger} are too large to look at all of their keys now",
                    "make sure that their names differ, or give each a target database of its own",
                )
    return passed("no key is in two of the databases that are merged")


def _groups(scene: Scene) -> list[list[int]]:
    """Source databases by where they go."""
    scope = scene.scope or {}
    return [[db for db, to in sorted(scope.items()) if to == target] for target in sorted(set(scope.values()))]


def _pairs(group: list[int], keys: dict[int, int]) -> Iterator[tuple[int, int]]:
    ordered = sorted(group, key=lambda db: keys.get(db, 0))
    for i, smaller in enumerate(ordered):
        yield from ((smaller, larger) for larger in ordered[i + 1 :])


def _compare(scene: Scene, smaller: int, larger: int, by: float, client: Any) -> bool:
    """Whether all keys of one were looked for in the other in time."""
    with client.client() as here, client.client() as there:
        here.execute_command("SELECT", smaller)
        there.execute_command("SELECT", larger)
        cursor = 0
        while time.monotonic() < by:
            cursor, page = here.scan(cursor, count=PAGE)
            pipe = [key for key in page if _taken(scene, smaller, key) and _taken(scene, larger, key)]
            if pipe and there.execute_command("EXISTS", *pipe):
                common = [key for key in pipe if there.execute_command("EXISTS", key)]
                _refuse(scene, smaller, larger, common)
            if int(cursor) == 0:
                return True
    return False


def _taken(scene: Scene, db: int, key: bytes) -> bool:
    return scene.spec.filter.of(db).takes(key)


def _refuse(scene: Scene, one: int, other: int, common: list[bytes]) -> None:
    if not common:
        return  # it has gone in this moment
    names = ", ".join(key[:60].decode(errors="backslashreplace") for key in common[:SHOWN])
    raise refusal(
        Side.SOURCE,
        f"{scene.source.address()}: databases {one} and {other}, which are merged, both have {names}"
        + (", ..." if len(common) > SHOWN else ""),
        "rename them, filter one of the two out, or give each database a target of its own",
        "shared-keys",
    )


ITEM = Item(
    id="shared-keys",
    title="Databases that are merged have no key in common",
    why="Of two keys of one name only the one that is written last would stay.",
    ask=_ask,
    needs=frozenset({Side.SOURCE}),
    warns=True,
)
