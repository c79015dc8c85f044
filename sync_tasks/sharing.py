"""Tasks that use the same servers: the shortest window for failed connections among them holds for all (SPEC 3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """A task that runs, as far as others that use the same servers are concerned.

    Args:
        source, target: identities of servers (`sync_tasks.server_identity`); None shares with nobody.
        connection_min: what its own settings say, in minutes.
    """

    task_id: int
    name: str
    source: str | None
    target: str | None
    connection_min: int


@dataclass(frozen=True, slots=True)
class Shortest:
    """The window for failed connections that holds for a task.

    Args:
        minutes: its length.
        by: id of the task whose setting that is; None: its own.
        by_name: of that task.
    """

    minutes: int
    by: int | None = None
    by_name: str | None = None


def shortest(asked: Iterable[Share], running: Iterable[Share]) -> dict[int, Shortest]:
    """What holds for each of the tasks that are asked for. A task's own window wins over one as short.

    Args:
        running: all tasks that run and share a source or a target with one of them; others do no harm.
    """
    sources: dict[str, Share] = {}
    targets: dict[str, Share] = {}
    for share in running:
        _keep(sources, share.source, share)
        _keep(targets, share.target, share)
    return {share.task_id: _of(share, sources, targets) for share in asked}


def _keep(found: dict[str, Share], server: str | None, share: Share) -> None:
    if server is not None and (server not in found or _order(share) < _order(found[server])):
        found[server] = share


def _order(share: Share) -> tuple[int, int]:
    return share.connection_min, share.task_id


def _of(share: Share, sources: dict[str, Share], targets: dict[str, Share]) -> Shortest:
    others = [
        found
        for table, server in ((sources, share.source), (targets, share.target))
        if server is not None and (found := table.get(server)) is not None
    ]
    least = min(others, key=_order, default=share)
    if least.connection_min >= share.connection_min:
        return Shortest(share.connection_min)
    return Shortest(least.connection_min, least.task_id, least.name)
