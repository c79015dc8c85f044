"""Item, for each side: the databases in scope are there."""

from __future__ import annotations

from functools import partial
from typing import Any

from sync_tasks.errors import Side
from sync_tasks.precheck.facts import refusal
from sync_tasks.precheck.item import Answer, Item, passed
from sync_tasks.precheck.scene import Scene

ABSENT = ("out of range", "invalid DB index", "not allowed in cluster mode")
"""What servers answer to SELECT of a database that they do not have."""


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
                if not any(words in str(error) for words in ABSENT):
                    raise
                endpoint = scene.endpoint(side)
                hint = _hint(side, db, endpoint.is_cluster)
                raise refusal(side, f"{endpoint.address()} has no database {db}", hint, "no-such-database") from error


def _hint(side: Side, db: int, cluster: bool) -> str:
    if side is Side.SOURCE:
        return "name a database that the source has"
    if cluster:
        return (
            f"map {db} to 0, or leave it out: a cluster has database 0 alone, but for Valkey from 9.0 on, where"
            " 'cluster-databases' in each node's configuration says how many"
        )
    return f"raise 'databases' in the target's configuration above {db}, or map {db} elsewhere"


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
