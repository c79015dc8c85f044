"""Item: the filter and the transform compile, and the script bears real keys."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sync_tasks.errors import Side, TransformError, UsageError
from sync_tasks.precheck.item import Answer, Item, passed
from sync_tasks.precheck.scene import Scene
from sync_tasks.transform.sample import dry_run, samples
from sync_tasks.transform.script import Script

if TYPE_CHECKING:
    from redis import Redis

COUNT = 50


def _ask(scene: Scene) -> Answer:
    # The filter's prefixes were read with the settings.
    script = scene.spec.transform.script(anew=scene.target.is_cluster)
    if script is None:
        return passed("there is no transform; the filter is read")
    tried, dropped = scene.ask(Side.SOURCE, partial(_try, scene, script))
    if not tried:
        return passed("the script compiles; the source has no keys in scope to try it on")
    return passed(f"the script compiles, and was tried on {tried} keys of the source: {dropped} of them are dropped")


def _try(scene: Scene, script: Script, client: Redis) -> tuple[int, int]:
    tried = dropped = 0
    for sample in samples(client, scene.scope, COUNT):
        if not scene.spec.filter.of(sample.db).takes(sample.key):
            continue
        try:
            after = dry_run(script, sample).after
        except TransformError as error:
            raise UsageError(error.message, code=error.code, hint="`keyferry transform check` shows more") from error
        tried += 1
        dropped += all(one == [] for one in after)
    return tried, dropped


ITEM = Item(
    id="transform",
    title="Filter and transform compile",
    why="A script that fails stops the task at that very command until it is corrected.",
    ask=_ask,
    needs=frozenset({Side.SOURCE}),
)
