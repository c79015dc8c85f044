"""What items may ask: both servers, the settings, what else runs here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError, Side
from sync_tasks.objects import ObjectStore
from sync_tasks.precheck.facts import Facts, gather, located, opened, together
from sync_tasks.spec import TaskSpec
from sync_tasks.topology import shards

if TYPE_CHECKING:
    from redis import Redis

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Route:
    """Where another task of this installation copies from and to: names of servers as in `server_identity`."""

    task: str
    source: str
    target: str
    databases: Mapping[int, int] | None  # None: all, each to its own number


@dataclass(frozen=True, slots=True)
class Scene:
    """One task before its start.

    Args:
        scope: source to target database, the URLs' /db included; None: all, each to its own number.
        spool: the directory where chunks and log will lie, if that is known here.
        others: tasks that have not ended.
        grants: asks anew about the roles that the task assumes, how many there are; raises if one is denied.
        store: where chunks will lie instead of the spool.
    """

    source: Endpoint
    target: Endpoint
    spec: TaskSpec = field(default_factory=TaskSpec)
    scope: Mapping[int, int] | None = None
    spool: Path | None = None
    others: tuple[Route, ...] = ()
    grants: Callable[[], int] = lambda: 0
    store: ObjectStore | None = None
    known: dict[Side, Facts] = field(default_factory=dict)  # of the servers that have answered
    masters: dict[Side, tuple[Facts, ...]] = field(default_factory=dict)  # of a cluster: of each shard's master

    def endpoint(self, side: Side) -> Endpoint:
        """The server of one side."""
        return self.source if side is Side.SOURCE else self.target

    def facts(self, side: Side) -> Facts:
        """What it has said of itself; of a cluster all together. Only items that need this side may ask."""
        return self.known[side]

    def meet(self, side: Side) -> Facts:
        """Ask it for that. Raises KeyferryError: why it cannot be used."""
        self.known.pop(side, None)
        self.masters.pop(side, None)
        endpoint = self.endpoint(side)
        if endpoint.is_cluster:
            members = [endpoint.at(*shard.master) for shard in shards(endpoint)]
            self.masters[side] = tuple(self._ask(one, lambda client, one=one: gather(client, one)) for one in members)  # type: ignore[misc]
            found = together(self.masters[side])
        else:
            found = self._ask(endpoint, lambda client: gather(client, endpoint))
        self.known[side] = found
        return found

    def of_master(self, side: Side, facts: Facts) -> Scene:
        """The same as if that side were one master of it alone."""
        known = self.known | {side: facts}
        if side is Side.SOURCE:
            return replace(self, source=facts.endpoint, known=known, masters={})
        return replace(self, target=facts.endpoint, known=known, masters={})

    def ask(self, side: Side, question: Callable[[Redis], T]) -> T:
        """The answer to a question, on a connection of its own; of a cluster, what one of its masters has found, if any
        has. Raises KeyferryError, with the address in it."""
        masters = self.masters.get(side)
        if masters is None:
            return self._ask(self.endpoint(side), question)
        answers = [self._ask(facts.endpoint, question) for facts in masters]
        return max(answers, key=bool)

    def _ask(self, endpoint: Endpoint, question: Callable[[Redis], T]) -> T:
        client = opened(endpoint)
        try:
            return question(client)
        except KeyferryError:
            raise
        except Exception as error:
            raise located(classify(error, endpoint.side), endpoint) from error
        finally:
            client.close()
