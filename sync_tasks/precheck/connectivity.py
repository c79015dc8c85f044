"""Whether one server can be reached as a task would, and what it is."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

from sync_tasks import dumps
from sync_tasks.endpoints import Endpoint
from sync_tasks.precheck.facts import Facts, gather, opened
from sync_tasks.topology import shards

PINGS = 5


@dataclass(frozen=True, slots=True)
class Connectivity:
    """A server that answers, and lets the user in."""

    address: str
    version: str  # product and version
    topology: str  # for people
    round_trip_ms: float | None  # None: it is a file
    keys: int | None  # None: not known
    databases: int | None  # that hold keys
    tls: bool

    def line(self) -> str:
        """For people."""
        if self.keys is None:
            return self.version
        tls = ", TLS" if self.tls else ""
        keys = f"{self.keys} keys in {self.databases} databases"
        return f"{self.version}, {self.topology}{tls}; {keys}; {self.round_trip_ms} ms away"

    def as_dict(self) -> dict[str, Any]:
        """The object of `keyferry task check --json`."""
        return asdict(self)


def probe(endpoint: Endpoint) -> Connectivity:
    """Ask it. Raises KeyferryError: why it cannot be used, with what to do."""
    if endpoint.is_cluster:
        return _cluster(endpoint)
    if endpoint.is_dump:
        return Connectivity(endpoint.address(), dumps.look(endpoint), "file", None, None, None, False)
    client = opened(endpoint)
    try:
        facts = gather(client, endpoint)
        trips = []
        for _ in range(PINGS):
            began = time.perf_counter()
            client.ping()
            trips.append((time.perf_counter() - began) * 1000)
    finally:
        client.close()
    return Connectivity(
        endpoint.address(), facts.name, _topology(facts), round(statistics.median(trips), 2), sum(facts.keys.values()),
        len(facts.keys), endpoint.tls,
    )  # fmt: skip


def _cluster(endpoint: Endpoint) -> Connectivity:
    """Each of its masters; the longest way counts."""
    found = shards(endpoint)
    each = [probe(endpoint.at(*shard.master)) for shard in found]
    replicas = sum(len(shard.replicas) for shard in found)
    return Connectivity(
        endpoint.address(), min(one.version for one in each), f"cluster of {len(found)} masters, {replicas} replicas",
        max(one.round_trip_ms or 0.0 for one in each), sum(one.keys or 0 for one in each),
        max(one.databases or 0 for one in each),
        endpoint.tls,
    )  # fmt: skip


def _topology(facts: Facts) -> str:
    if facts.cluster:
        return "member of a cluster"
    if facts.role == "master":
        return f"master {facts.endpoint.master} of Sentinels" if facts.endpoint.is_sentinel else "master"
    return f"replica of {facts.master}" + ("" if facts.link_up else ", which it has lost")
