"""Items that are about a server, asked of each master of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Finding, Item
from sync_tasks.precheck.scene import Scene

WORST = (Finding.FAILED, Finding.WARNING, Finding.PASSED, Finding.SKIPPED)


def of_each(item: Item, side: Side) -> Item:
    """The item, asked of each master where that side is a cluster: what it says of the worst of them."""
    return replace(item, ask=_each(item.ask, side))


def _each(ask: Callable[[Scene], Answer], side: Side) -> Callable[[Scene], Answer]:
    def asked(scene: Scene) -> Answer:
        masters = scene.masters.get(side, ())
        if not masters:
            return ask(scene)
        answers = [(facts, ask(scene.of_master(side, facts))) for facts in masters]
        facts, worst = min(answers, key=lambda pair: WORST.index(pair[1].finding))
        if worst.finding is Finding.PASSED:
            return worst._replace(found=f"{worst.found}; the same of all {len(masters)} masters")
        return worst._replace(found=f"{facts.endpoint.address()}: {worst.found}")

    return asked
