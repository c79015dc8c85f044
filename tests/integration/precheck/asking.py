"""Items, asked of real servers."""

from __future__ import annotations

from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.precheck.item import Result
from sync_tasks.precheck.items import item_of
from sync_tasks.precheck.run import ask
from sync_tasks.precheck.scene import Scene
from sync_tasks.spec import from_table
from tests.servers import Server


def scene(source: Server | str, target: Server | str, **more: Any) -> Scene:
    """A task before its start. `more`: fields of `Scene`; settings as a table."""
    ends = [end if isinstance(end, str) else end.url() for end in (source, target)]
    more["spec"] = from_table(more.get("spec", {}), "test")
    return Scene(Endpoint.parse(ends[0], Side.SOURCE), Endpoint.parse(ends[1], Side.TARGET), **more)


def one(item: str, source: Server | str, target: Server | str, **more: Any) -> Result:
    """What becomes of one item."""
    (found,) = ask(scene(source, target, **more), lambda _s: None, items=[item_of(item)])
    return found


def said(item: str, source: Server | str, target: Server | str, **more: Any) -> str:
    """Its finding."""
    return one(item, source, target, **more).finding.value
