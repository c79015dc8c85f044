"""What must hold before databases or keys are added to a task that has begun: as before a start, for them alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sync_tasks import names
from sync_tasks.errors import KeyferryError, Side
from sync_tasks.extent import Extent
from sync_tasks.precheck.facts import refusal
from sync_tasks.precheck.item import Answer, Finding, Item, passed, skipped, warning
from sync_tasks.precheck.items import (
    connection,
    databases_exist,
    grants,
    no_loop,
    permissions,
    shared_keys,
    target_empty,
)
from sync_tasks.precheck.run import ask, first_error

if TYPE_CHECKING:
    from sync_tasks.precheck.scene import Scene

FOR_S = 3.0
PAGE = 1000
ITEMS = (
    grants.ITEM,
    connection.ITEMS[Side.SOURCE],
    permissions.ITEMS[Side.SOURCE],
    connection.ITEMS[Side.TARGET],
    no_loop.ITEM,
    databases_exist.ITEMS[Side.SOURCE],
    permissions.ITEMS[Side.TARGET],
    databases_exist.ITEMS[Side.TARGET],
    shared_keys.ITEM,
)


def look(scene: Scene, after: Extent, before: Sequence[Extent]) -> list[str]:
    """Warnings of what stands against an addition, for people. Nothing is written to either server.

    Args:
        scene: with the settings that are asked for.
        after: what they copy.
        before: what the task's run has copied so far, now and earlier: such keys on the target are its own.

    Raises:
        KeyferryError: what stands against it for certain.
    """
    empty = Item(
        id=target_empty.ITEM.id,
        title=target_empty.ITEM.title,
        why=target_empty.ITEM.why,
        ask=lambda scene: _ask(scene, after, before),
        needs=target_empty.ITEM.needs,
        warns=True,
    )
    results = ask(scene, lambda _seconds: None, items=(*ITEMS, empty))
    error: KeyferryError | None = first_error(results)
    if error is not None:
        raise error
    return [f"{result.found}; {result.repair}" for result in results if result.finding is Finding.WARNING]


def _ask(scene: Scene, after: Extent, before: Sequence[Extent]) -> Answer:
    if scene.spec.conflict_mode != "precheck-and-report":
        return skipped("conflict_mode says to overwrite keys of the same name")
    return scene.ask(Side.TARGET, partial(_look, scene, after, before))


def _look(scene: Scene, after: Extent, before: Sequence[Extent], client: Any) -> Answer:
    """No key on the target that is in what is added, but those that the task may have brought itself."""
    target, by = scene.facts(Side.TARGET), time.monotonic() + FOR_S
    for to in sorted(db for db, keys in target.keys.items() if keys):
        added = [db for db in _sources(after, to) if after.adds(before[0], db)]
        if not added:
            continue
        with client.client() as link:
            link.execute_command("SELECT", to)
            cursor = 0
            while True:
                cursor, page = link.scan(cursor, count=PAGE)
                found = next((key for key in page if _is_foreign(key, to, added, after, before)), None)
                if found is not None:
                    raise _refused(target.endpoint.address(), to, found)
                if int(cursor) == 0:
                    break
                if time.monotonic() > by:
                    return warning(
                        f"the target's database {to} is too large to look at all of its keys now",
                        "keys there that begin like those that are added are overwritten",
                    )
    return passed("no key where something is added")


def _is_foreign(key: bytes, to: int, added: list[int], after: Extent, before: Sequence[Extent]) -> bool:
    if key.startswith(names.KEY_PREFIX) or not any(after.takes(db, key) for db in added):
        return False
    return not any(one.takes(db, key) for one in before for db in _sources(one, to))


def _sources(extent: Extent, to: int) -> list[int]:
    return [to] if extent.databases is None else [db for db, goal in extent.databases.items() if goal == to]


def _refused(address: str, to: int, key: bytes) -> KeyferryError:
    name = key[:60].decode(errors="backslashreplace")
    return refusal(
        Side.TARGET,
        f"{address}: database {to} is not empty where something is added, it holds {name}",
        'empty it, or set conflict_mode = "ignore-and-proceed" to overwrite keys of the same name',
        "target-not-empty",
    )
