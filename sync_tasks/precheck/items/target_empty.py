"""Item: the target's databases in scope are empty, unless the user says otherwise."""

from __future__ import annotations

from functools import partial
from typing import Any

from sync_tasks import names
from sync_tasks.errors import Side
from sync_tasks.precheck.facts import refusal
from sync_tasks.precheck.item import Answer, Item, passed, skipped
from sync_tasks.precheck.scene import Scene

LOOKS = 20  # pages of SCAN spent on finding a key that is not ours
PAGE = 1000


def _ask(scene: Scene) -> Answer:
    if not scene.spec.loads:
        return skipped("what is there is not copied, but expected to be there")
    if scene.spec.conflict_mode != "precheck-and-report":
        return skipped("conflict_mode says to overwrite keys of the same name")
    return scene.ask(Side.TARGET, partial(_look, scene))


def _look(scene: Scene, client: Any) -> Answer:
    """No key but those of Keyferry itself."""
    target = scene.facts(Side.TARGET)
    scope = None if scene.scope is None else set(scene.scope.values())
    for db, keys in sorted(target.keys.items()):
        if (scope is None or db in scope) and keys and _has_foreign_key(client, db):
            raise refusal(
                Side.TARGET,
                f"{target.endpoint.address()}: database {db} is not empty, it holds {keys} keys",
                'empty it, or set conflict_mode = "ignore-and-proceed" to overwrite keys of the same name',
                "target-not-empty",
            )
    return passed("no key in the databases in scope")


def _has_foreign_key(client: Any, db: int) -> bool:
    with client.client() as connection:
        connection.execute_command("SELECT", db)
        cursor = 0
        for _ in range(LOOKS):
            cursor, page = connection.scan(cursor, count=PAGE)
            if any(not key.startswith(names.KEY_PREFIX) for key in page):
                return True
            if int(cursor) == 0:
                return False
    return True  # Keyferry never leaves that many keys: what was not seen is somebody's


ITEM = Item(
    id="target-empty",
    title="The target is empty in scope",
    why="What is there would be mixed with what comes, and overwritten where names are equal.",
    ask=_ask,
    needs=frozenset({Side.TARGET}),
)
