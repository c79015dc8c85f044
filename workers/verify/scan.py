"""All keys of a database, a batch at a time: of one server, or of all masters of a cluster while slots move there."""

from __future__ import annotations

from collections.abc import Iterator

from sync_tasks.errors import ConnectionLost
from sync_tasks.names import KEY_PREFIX
from sync_tasks.slots import Ranges, members
from sync_tasks.topology import Address
from workers.codec.slots_cy import slot
from workers.spool.ranges import Range
from workers.verify.cluster import ClusterLink
from workers.verify.link import Link
from workers.verify.server import Server, keys_by_db
from workers.verify.wire import pack

SCAN_COUNT = 1000
ALL = Range(0, 0, "")
MOST_IN_BUCKET = 64
"""Keys: no table has more in a bucket on average. Redis' goes to 5, Valkey's to 35, while a child saves."""
MOST_ROUNDS = 100
"""Of walking over slots that have moved: each is as short as what moved in the one before it is."""


def scan(server: Server, db: int, cursors: Range | None = None, slots: Ranges | None = None) -> Iterator[list[bytes]]:
    """Keys of a database without ours; some may come twice, never in one batch, and some in two ranges.

    A batch is of no more than a limit of the server's commands allows for at a time.

    Args:
        cursors: of one server: those of this range alone, of the process that it is of; None: all.
        slots: of a cluster: keys of these alone; None: all.
    """
    if isinstance(server.link, ClusterLink):
        yield from _everywhere(server.link, db, None if slots is None else frozenset(members(slots)))
    else:
        yield from _walk(server.link, db, cursors or ALL)


def _walk(link: Link, db: int, cursors: Range = ALL) -> Iterator[list[bytes]]:
    cursor = b"%d" % cursors.index
    while True:
        count = b"%d" % link.pace.most(SCAN_COUNT, 1)[0]
        cursor, found = link.ask(db, pack(b"SCAN", cursor, b"COUNT", count), 1)[0]
        over = not cursors.follows(int(cursor))
        beyond: set[bytes] = set()
        if over and cursors.after is not None:
            # The last page goes on into the next range, by fewer keys than a page that begins there has. But a table
            # that was made smaller may have one bucket for both: these keys are ours, too, and that range may be done.
            request = pack(b"SCAN", b"%d" % cursors.after, b"COUNT", count) + pack(b"INFO", b"KEYSPACE")
            (_, others), said = link.ask(db, request, 2)
            if keys_by_db(said).get(db, 0) >= MOST_IN_BUCKET << cursors.bits:
                beyond.update(others)
        keys = [key for key in dict.fromkeys(found) if key not in beyond and not key.startswith(KEY_PREFIX)]
        if keys:
            yield keys
        if over:
            return


def _everywhere(cluster: ClusterLink, db: int, part: frozenset[int] | None = None) -> Iterator[list[bytes]]:
    """The first round walks every master of the slots. One that moved meanwhile may have been where the walk was not:
    the next round looks for its keys at all masters, there and back, so that one that moves on is met on the way or at
    its end; until none has another node than when the round began."""
    cluster.moved.clear()
    cluster.moving.clear()
    cluster.look_patiently()
    slots = part
    for number in range(MOST_ROUNDS):
        masters = cluster.masters if number or part is None else cluster.masters_of(part)
        for place in [*masters, *masters[-2::-1]] if number else masters:
            yield from _node(cluster, place, db, slots)
        cluster.look_patiently()
        moved = cluster.moved if part is None else cluster.moved & part
        moving = cluster.moving if part is None else cluster.moving & part
        if not moved and (number or not moving):
            return
        slots = frozenset(moved | moving)
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
