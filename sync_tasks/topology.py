"""The shards of a cluster: which slots each has, its master and its replicas, as the cluster's nodes say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, KeyferryError, Side, SourceError, TargetError
from sync_tasks.slots import SLOTS

ASK_S = 3.0
"""Seconds that one node may take to answer."""
Ranges = tuple[tuple[int, int], ...]
"""Slots, first and last of each range, in order."""
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Shard:
    """One master of a cluster, and who has copies of what it has.

    node_id: the master's own name for itself. moving: of its slots, those that are on their way from or to it.
    """

    slots: Ranges
    master: Address
    replicas: tuple[Address, ...]
    node_id: str
    moving: tuple[int, ...] = ()

    def serves(self, slot: int) -> bool:
        """Whether a slot is one of its."""
        return any(first <= slot <= last for first, last in self.slots)


def shards(endpoint: Endpoint) -> list[Shard]:
    """Masters of a cluster that serve slots, by their first one.

    Args:
        endpoint: a cluster, or one of its nodes; those that it names are asked in turn.

    Raises:
        ConnectionLost: none of them answers, or no whole cluster is known there at this moment.
        SourceError, TargetError: it is no cluster.
        KeyferryError: what else the last one answers.
    """
    last: KeyferryError | None = None
    for host, port in endpoint.nodes or ((endpoint.host, endpoint.port),):
        one = endpoint.at(host, port)
        try:
            with one.connect(socket_timeout=ASK_S, socket_connect_timeout=ASK_S) as client:
                text: Any = client.execute_command("CLUSTER", "NODES")
            return read(text.decode(), (host, port), endpoint.side)
        except Exception as error:  # noqa: BLE001 - classified, and raised if no other node answers
            last = _refined(classify(error, endpoint.side), one)
    assert last is not None
    raise last


def read(text: str, asked: Address, side: Side) -> list[Shard]:
    """What CLUSTER NODES has answered. Source: the command's page; the format is the same from Redis 3.0 to Valkey 9.

    Args:
        asked: whom; a node does not always know its own address.

    Raises:
        ConnectionLost: some slot is served by nobody.
    """
    masters: list[tuple[str, Address, Ranges, tuple[int, ...]]] = []
    replicas: dict[str, list[Address]] = {}
    for line in text.splitlines():
        name, where, flags, master, *rest = line.split()
        rest = rest[4:]
        known = flags.split(",")
        if "noaddr" in known or "handshake" in known or "fail" in known:
            continue
        address = _address(where, asked, "myself" in known)
        if "master" not in known:
            replicas.setdefault(master, []).append(address)
        elif slots := tuple(_range(part) for part in rest if not part.startswith("[")):
            masters.append((name, address, slots, tuple(int(p[1:].split("-")[0]) for p in rest if p.startswith("["))))
    missing = SLOTS - sum(last - first + 1 for _, _, slots, _ in masters for first, last in slots)
    if missing:
        raise ConnectionLost(
            f"{missing} of the slots of the cluster {asked[0]}:{asked[1]} are served by nobody",
            side=side,
            code="cluster-down",
            hint="see CLUSTER INFO there; bring its failed masters back, or give their slots to others",
        )
    found = [Shard(slots, where, tuple(replicas.get(name, ())), name, moving) for name, where, slots, moving in masters]
    return sorted(found, key=lambda shard: shard.slots)


def _address(where: str, asked: Address, itself: bool) -> Address:
    """`host:port@cport[,hostname]`; IPv6 hosts stand there without brackets, one's own host may be missing."""
    host, _, port = where.split(",")[0].split("@")[0].rpartition(":")
    return (asked[0] if itself or not host else host, int(port) or asked[1])


def _range(part: str) -> tuple[int, int]:
    first, _, last = part.partition("-")
    return int(first), int(last or first)


def _refined(error: KeyferryError, endpoint: Endpoint) -> KeyferryError:
    if "cluster support disabled" not in error.message:
        return error
    kind = SourceError if endpoint.side is Side.SOURCE else TargetError
    return kind(
        f"{endpoint.address()} is no member of a cluster",
        code="no-cluster",
        hint="write redis://host:port for one server",
    )
