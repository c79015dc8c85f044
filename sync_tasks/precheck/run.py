"""Ask every item, side by side, each within its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from sync_tasks.errors import ConnectionLost, KeyferryError, Side
from sync_tasks.precheck.asked import Asked
from sync_tasks.precheck.item import Finding, Item, Result
from sync_tasks.precheck.items import ITEMS
from sync_tasks.precheck.scene import Scene

MEET_S = 15.0
"""Seconds in which a server must have said what it is."""
WITHIN_S = 4.0
"""Seconds for each of the other items: SPEC 7 allows 20 with all the rest."""
POLL_S = 0.01
OF_REPLICAS = frozenset((
    "replica", "replica-buffer", "backlog", "replication-timeout", "fork-headroom", "script-replication", "append-only",
))  # fmt: skip
"""Ids of items about what a source does for its replicas."""
OF_SNAPSHOTS = frozenset(("fork-headroom",))
"""Of those, about its snapshots alone."""

Pause = Callable[[float], None]
"""Sleeps some seconds; may raise to give up."""
Tell = Callable[[list[Result]], None]
"""Is given what has been found since it was told last."""


def ask(
    scene: Scene,
    pause: Pause,
    tell: Tell = lambda _results: None,
    items: Iterable[Item] = ITEMS,
    *,
    hasty: bool = False,
    meet_s: float = MEET_S,
    within_s: float = WITHIN_S,
) -> list[Result]:
    """The results of `items`, in their order. Nothing is written to either server.

    Args:
        scene: what they ask.
        pause: called while it waits.
        tell: called with results as they come.
        items: those to ask; servers that they need are asked first in any case.
        hasty: the first failure ends it: the items that have not answered by then are left out.
        meet_s, within_s: seconds for the first questions to the servers, and for each of the others.
    """
    wanted = list(items)
    results: dict[str, Result] = {}

    def found(some: list[Result]) -> None:
        results.update((result.item, result) for result in some)
        if told := [result for result in some if any(result.item == item.id for item in wanted)]:
            tell(told)

    meetings = [item for item in ITEMS if not item.needs and item.id.endswith("-connection") and _needed(item, wanted)]
    rest = [item for item in wanted if item not in meetings]
    for batch, seconds in ((meetings, meet_s), (rest, within_s)):
        ready = [item for item in batch if item.needs <= scene.known.keys() and not _means_nothing(item, scene)]
        found([_unasked(item, scene) for item in batch if item not in ready])
        for some in _side_by_side(scene, ready, seconds, pause):
            found(some)
            if hasty and any(result.error for result in some):
                return [results[item.id] for item in wanted if item.id in results]
    return [results[item.id] for item in wanted]


def first_error(results: Iterable[Result]) -> KeyferryError | None:
    """Of the first item that has failed."""
    return next((result.error for result in results if result.error is not None), None)


def _needed(meeting: Item, wanted: list[Item]) -> bool:
    """Whether it is wanted itself, or by an item that needs its server."""
    side = Side(meeting.id.removesuffix("-connection"))
    return meeting in wanted or any(side in item.needs for item in wanted)


def _side_by_side(scene: Scene, items: list[Item], within_s: float, pause: Pause) -> Iterator[list[Result]]:
    """Results as they come. All threads but those of items that have failed for lateness have ended at its end."""
    deadline = time.monotonic() + within_s
    open_ = [(item, Asked(lambda item=item: item.ask(scene))) for item in items]  # type: ignore[misc]
    for _, thread in open_:
        thread.start()
    while open_:
        late = time.monotonic() >= deadline
        over = [pair for pair in open_ if late or not pair[1].is_alive()]
        open_ = [pair for pair in open_ if pair not in over]
        if over:
            yield [_result(scene, item, thread, within_s) for item, thread in over]
        if open_:
            open_[0][1].join(POLL_S)
            pause(0.0)


def _result(scene: Scene, item: Item, thread: Asked, within_s: float) -> Result:
    if thread.is_alive():
        return Result.failed(item, _late(scene, item, within_s))
    if isinstance(thread.error, KeyferryError):
        return Result.failed(item, thread.error)
    if thread.error is not None:
        raise thread.error
    return Result.of(item, thread.answer)


def _late(scene: Scene, item: Item, within_s: float) -> KeyferryError:
    side = next((side for side in (Side.SOURCE, Side.TARGET) if item.id.startswith(side.value)), Side.TARGET)
    return ConnectionLost(
        f"{scene.endpoint(side).address()}: no answer within {within_s:.0f} s",
        hint="check host and port, the network between, and that the server is not stopped",
        side=side,
    )


def _means_nothing(item: Item, scene: Scene) -> bool:
    if scene.spec.continues:
        return item.id in OF_SNAPSHOTS
    return scene.spec.reader == "scan" and item.id in OF_REPLICAS


def _unasked(item: Item, scene: Scene) -> Result:
    if _means_nothing(item, scene):
        if scene.spec.continues:
            return Result(item.id, Finding.SKIPPED, "the source is read by SCAN, and makes no snapshot")
        return Result(item.id, Finding.SKIPPED, "the source is read by SCAN, and has no replica in us")
    if scene.source.is_dump and Side.SOURCE in item.needs:
        return Result(item.id, Finding.SKIPPED, "the source is a file: there is no server to ask")
    return Result(item.id, Finding.SKIPPED, "not asked: a server that it needs has not answered")
