"""Item, for each side: the databases in scope are there."""

from __future__ import annotations

from functools import partial
from typing import Any

from sync_tasks.errors import Side
from sync_tasks.precheck.facts import refusal
from sync_tasks.precheck.item import Answer, Item, passed
from sync_tasks.precheck.scene import Scene


def _source(scene: Scene) -> Answer:
    return _exist(scene, Side.SOURCE, set(scene.scope or ()))


def _target(scene: Scene) -> Answer:
    wanted = scene.facts(Side.SOURCE).keys if scene.scope is None else scene.scope.values()
    return _exist(scene, Side.TARGET, set(wanted))


def _exist(scene: Scene, side: Side, wanted: set[int]) -> Answer:
    scene.ask(side, partial(_select, scene, side, wanted))
    if not wanted:
        return passed("all, whatever they are")
    return passed("databases " + ", ".join(map(str, sorted(wanted))))


def _select(scene: Scene, side: Side, wanted: set[int], client: Any) -> None:
    """SELECT is the only question that every user may ask."""
    from redis import ResponseError

    with client.client() as connection:
        for db in sorted(wanted, reverse=True):
            try:
                connection.execute_command("SELECT", db)
            except ResponseError as error:
                if "out of range" not in str(error) and "invalid DB index" not in str(error):
                    raise
                hint = (
                    f"raise 'databases' in the target's configuration above {db}, or map {db} elsewhere"
                    if side is Side.TARGET
                    else "name a database that the source has"
                )
                raise refusal(
                    side, f"{scene.endpoint(side).address()} has no database {db}", hint, "no-such-database"
                ) from error


def _item(side: Side, why: str, ask: Any, needs: frozenset[Side]) -> Item:
    return Item(f"{side}-databases", f"The {side} has the databases in scope", why, ask, needs)


ITEMS = {
    Side.SOURCE: _item(
        Side.SOURCE, "A database that is not there has nothing to copy.", _source, frozenset({Side.SOURCE})
    ),
    Side.TARGET: _item(
        Side.TARGET,
        "Writes to a database that is not there are refused.",
        _target,
        frozenset({Side.SOURCE, Side.TARGET}),
    ),
}
