"""All keys of a database, a batch at a time: of one server, or of all masters of a cluster while slots move there."""

from __future__ import annotations

from collections.abc import Iterator

from sync_tasks.errors import ConnectionLost
from sync_tasks.names import KEY_PREFIX
from sync_tasks.topology import Address
from workers.codec.slots_cy import slot
from workers.verify.cluster import ClusterLink
from workers.verify.link import Link
from workers.verify.server import Server
from workers.verify.wire import pack

SCAN_COUNT = 1000
MOST_ROUNDS = 100
"""Of walking over slots that have moved: each is as short as what moved in the one before it is."""


def scan(server: Server, db: int) -> Iterator[list[bytes]]:
    """Keys of a database without ours; some may come twice, never in one batch.

    A batch is of no more than a limit of the server's commands allows for at a time.
    """
    if isinstance(server.link, ClusterLink):
        yield from _everywhere(server.link, db)
    else:
        yield from _walk(server.link, db)


def _walk(link: Link, db: int) -> Iterator[list[bytes]]:
    cursor = b"0"
    while True:
        request = pack(b"SCAN", cursor, b"COUNT", b"%d" % link.pace.most(SCAN_COUNT, 1)[0])
        cursor, found = link.ask(db, request, 1)[0]
        keys = [key for key in dict.fromkeys(found) if not key.startswith(KEY_PREFIX)]
        if keys:
            yield keys
        if cursor == b"0":
            return


def _everywhere(cluster: ClusterLink, db: int) -> Iterator[list[bytes]]:
    """The first round walks every master. A slot that moved meanwhile may have been where the walk was not: the next
    round looks for its keys at all masters, there and back, so that one that moves on is met on the way or at its end;
    until none has another node than when the round began."""
    cluster.moved.clear()
    cluster.moving.clear()
    cluster.look_patiently()
    slots: frozenset[int] | None = None
    for number in range(MOST_ROUNDS):
        masters = cluster.masters
        for place in masters if slots is None else [*masters, *masters[-2::-1]]:
            yield from _node(cluster, place, db, slots)
        cluster.look_patiently()
        if not cluster.moved and (number or not cluster.moving):
            return
        slots = frozenset(cluster.moved | cluster.moving)
        cluster.moved.clear()
        cluster.moving.clear()
    raise ConnectionLost(
        "slots of the cluster have moved all the while",
        side=cluster.endpoint.side, code="slots-move", hint="run the same command again once they rest",
    )  # fmt: skip


def _node(cluster: ClusterLink, place: Address, db: int, slots: frozenset[int] | None) -> Iterator[list[bytes]]:
    """Keys of one node. If it goes, its slots count as moved."""
    try:
        link = cluster.of(place)
    except ConnectionLost:
        cluster.lost(place)
        return
    pages = _walk(link, db)
    while cluster.is_open(place, link):
        try:
            keys = next(pages, None)
        except ConnectionLost:
            cluster.lost(place)
            return
        if keys is None:
            return
        kept = keys if slots is None else [key for key in keys if slot(key) in slots]
        if kept:
            yield kept
        cluster.look_now_and_then()
