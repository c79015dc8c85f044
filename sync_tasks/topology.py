"""The shards of a cluster: which slots each has, its master and its replicas, as the cluster's nodes say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from sync_tasks import slots as hash_slots
from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, KeyferryError, Side, SourceError, TargetError

ASK_S = 3.0
"""Seconds that one node may take to answer."""
MOST_NAMED = 10
"""Ranges of slots in a message."""
Ranges = tuple[tuple[int, int], ...]
"""Slots, first and last of each range, in order."""
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Shard:
    """One master of a cluster, and who has copies of what it has.

    node_id: the master's own name for itself. moving: of its slots, those that are on their way from or to it.
    members: names of the master and its replicas: by them it is the same shard after a failover.
    followed: whoever says this follows its master.
    """

    slots: Ranges
    master: Address
    replicas: tuple[Address, ...]
    node_id: str
    moving: tuple[int, ...] = ()
    members: frozenset[str] = field(default=frozenset(), compare=False)
    followed: bool = field(default=False, compare=False)

    @property
    def address(self) -> str:
        """Of the master, as people write it."""
        host, port = self.master
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def serves(self, slot: int) -> bool:
        """Whether a slot is one of its."""
        return any(first <= slot <= last for first, last in self.slots)


def shards(endpoint: Endpoint, *, every: bool = False) -> list[Shard]:
    """Masters of a cluster that serve slots, by their first one.

    Args:
        endpoint: a cluster, or one of its nodes; those that it names are asked in turn.
        every: those that serve none, too.

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
                slots: Any = client.execute_command("CLUSTER", "SLOTS")
            return reached(read(text.decode(), (host, port), endpoint.side, every=every), slots, (host, port))
        except Exception as error:  # noqa: BLE001 - classified, and raised if no other node answers
            last = _refined(classify(error, endpoint.side), one)
    assert last is not None
    raise last


def read(text: str, asked: Address, side: Side, *, every: bool = False) -> list[Shard]:
    """What CLUSTER NODES has answered. Source: the command's page; the format is the same from Redis 3.0 to Valkey 9.

    Args:
        asked: whom; a node does not always know its own address.
        every: as of `shards`.

    Raises:
        ConnectionLost: some slot is served by nobody; or the node has lost most of the masters, so that another one may
            have its place, or theirs, and it does not know: it answers nothing of keys then.
    """
    masters: list[tuple[str, Address, Ranges, tuple[int, ...]]] = []
    replicas: dict[str, list[Address]] = {}
    named: dict[str, list[str]] = {}
    voters = lost = 0
    for line in text.splitlines():
        name, where, flags, master, *rest = line.split()
        rest = rest[4:]
        known = flags.split(",")
        if "master" in known and any(not part.startswith("[") for part in rest):
            voters, lost = voters + 1, lost + ("fail" in known or "fail?" in known)
        if "noaddr" in known or "handshake" in known or "fail" in known:
            continue
        address = _address(where, asked, "myself" in known)
        if "master" not in known:
            replicas.setdefault(master, []).append(address)
            named.setdefault(master, []).append(name)
        elif (slots := tuple(_range(part) for part in rest if not part.startswith("["))) or every:
            masters.append((name, address, slots, tuple(int(p[1:].split("-")[0]) for p in rest if p.startswith("["))))
    missing = hash_slots.members(hash_slots.ALL).difference(*(hash_slots.members(slots) for _, _, slots, _ in masters))
    if missing:
        raise ConnectionLost(
            f"slots {shortened(missing)} of the cluster {asked[0]}:{asked[1]} are served by nobody",
            side=side,
            code="cluster-down",
            hint="see CLUSTER INFO there; bring its failed masters back, or give their slots to others",
        )
    if voters - lost <= voters // 2:
        raise ConnectionLost(
            f"{asked[0]}:{asked[1]} has lost {lost} of {voters} masters of its cluster, and cannot say who serves what",
            side=side,
            code="cluster-down",
            hint="see CLUSTER INFO there; bring its masters back, or the network between them",
        )
    found = [
        Shard(slots, where, tuple(replicas.get(name, ())), name, moving, frozenset((name, *named.get(name, ()))))
        for name, where, slots, moving in masters
    ]
    return sorted(found, key=lambda shard: shard.slots)


def places(text: str, asked: Address) -> dict[str, Address]:
    """Every node's address by its own name, as CLUSTER NODES has answered: those without slots, too."""
    lines = [line.split() for line in text.splitlines()]
    return {name: _address(where, asked, "myself" in flags) for name, where, flags, *_ in lines}


def reached(found: list[Shard], slots: Iterable[Any], asked: Address) -> list[Shard]:
    """The shards, each master at the address where clients are to reach it: a host's name that a certificate is made
    out to, perhaps, of which CLUSTER NODES gives the number.

    Args:
        slots: what CLUSTER SLOTS has answered; before 4.0 it does not say which node has an address.
        asked: whom; a node that knows no address of its own is there.
    """
    where: dict[str, Address] = {}
    for _first, _last, (host, port, *name), *_replicas in slots:
        if name:
            known = host.decode() if host else ""
            where[name[0].decode()] = (known if known not in ("", "?") else asked[0], int(port))
    return [replace(shard, master=where.get(shard.node_id, shard.master)) for shard in found]


def same(shard: Iterable[str], slots: Ranges, now: Iterable[Shard]) -> Shard | None:
    """The shard that had these members: one of them is its master now, or else is left in it, as a replica of another
    one's, perhaps; else any that serves some of the slots. Of several, the one that serves the most of them."""
    now, known = list(now), set(shard)
    for fits in (
        [one for one in now if one.node_id in known],
        [one for one in now if one.members & known],
        [one for one in now if _common(slots, one.slots)],
    ):
        if fits:
            return max(fits, key=lambda one: _common(slots, one.slots))
    return None


def _common(one: Ranges, other: Ranges) -> int:
    pairs = ((max(a, c), min(b, d)) for a, b in one for c, d in other)
    return sum(last - first + 1 for first, last in pairs if last >= first)


def _address(where: str, asked: Address, itself: bool) -> Address:
    """`host:port@cport[,hostname]`; IPv6 hosts stand there without brackets, one's own host may be missing."""
    host, _, port = where.split(",")[0].split("@")[0].rpartition(":")
    return (asked[0] if itself or not host else host, int(port) or asked[1])


def shortened(slots: set[int]) -> str:
    """For people."""
    found = hash_slots.ranges(slots)
    more = f" and more, {len(slots)} in all," if len(found) > MOST_NAMED else ""
    return hash_slots.written(found[:MOST_NAMED]) + more


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
