"""What is asked of a part of a cluster that is read by SCAN, besides its keys; and of one that is followed."""

from __future__ import annotations

from collections.abc import Sequence

from sync_tasks.endpoints import Endpoint
from sync_tasks.slots import Ranges, meet, members
from sync_tasks.topology import Address
from workers.source.ask import _fields
from workers.source.followed import Followed
from workers.source.of_cluster import OfCluster
from workers.source.routes import LAYOUT
from workers.source.survey import LEAST_PAYLOAD, SECTIONS, Survey


class ClusterSurvey(Survey, OfCluster):
    """Surveys some slots of a cluster.

    Args:
        endpoint: of the cluster, with the slots.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._at: dict[str, Address] = {}  # masters that are looked at, by their own names

    def spaces(self) -> tuple[str, dict[int, int]]:
        return OfCluster.spaces(self)

    def is_clustered(self) -> bool:
        return True

    def version(self, db: int) -> int | None:
        for at in self._places():
            for _ in range(10):
                (key,) = self._routes.ask(at, db, [(b"RANDOMKEY",)])
                if not isinstance(key, bytes):
                    break
                _, payload = self._routes.ask(at, db, [(b"ASKING",), (b"DUMP", key)])  # its slot may be on its way
                if isinstance(payload, bytes) and len(payload) >= LEAST_PAYLOAD:
                    return int.from_bytes(payload[-10:-8], "little")
        return None

    def places(self) -> list[Endpoint]:
        """Masters that have keys of the slots, or are about to be given some. They are looked at from now on."""
        self._at = {}
        self._at = self._wanted([(one.master, one.node_id) for one in self._routes.shards() if self._has(one.slots)])
        return [self._endpoint.at(*at) for at in self._at.values()]

    def strangers(self) -> bool:
        """Whether others than these have some by now, or are about to."""
        return not self._wanted([(at, name) for name, at in self._at.items()]).keys() <= self._at.keys()

    def upset(self) -> tuple[object, ...]:
        found: list[object] = []
        for name, at in sorted(self._at.items()):
            infos = self._all(at, 0, [(b"INFO", section) for section in SECTIONS])
            found.append((name, self._upset(*map(_fields, infos))))
        return tuple(found)

    def _has(self, slots: Ranges) -> bool:
        return bool(meet(slots, self._endpoint.slots))

    def _wanted(self, asked: Sequence[tuple[Address, str]]) -> dict[str, Address]:
        """Those that have some by the word of the masters that are asked, or are about to."""
        mine, found = members(self._endpoint.slots), dict[str, Address]()
        for at, _ in asked:
            view = self._routes.view(self._routes.ask(at, 0, LAYOUT), at)
            there = [(one.node_id, one.master) for one in view.shards if self._has(one.slots)]
            for name, place in [*there, *(heir for slot, heir in view.heirs.items() if slot in mine)]:
                found.setdefault(name, place)
        return found


class ClusterFollowed(Followed, OfCluster):
    """Asks a part of a cluster that is followed by its notifications."""


def survey_of(endpoint: Endpoint) -> Survey:
    """What surveys a source node: a server, or some slots of a cluster."""
    return ClusterSurvey(endpoint) if endpoint.slots else Survey(endpoint)
