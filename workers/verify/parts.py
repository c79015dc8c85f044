"""A verification cut into parts that workers compare side by side: what each is of, and how they are made.

A database of one server is cut into ranges of cursors, as a source that is read by SCAN is (`workers.spool.ranges`);
that holds within the life of its process. Of a cluster each part is the slots that one node has when it is cut: whoever
has them later, and while they move, the part is of the same keys.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Self

from sync_tasks import slots as hash_slots
from sync_tasks.slots import Ranges
from workers.scope import Scope
from workers.spool.ranges import Range, bits_of
from workers.verify.cluster import ClusterLink
from workers.verify.findings import Pair
from workers.verify.scan import SCAN_COUNT
from workers.verify.scope import pairs
from workers.verify.server import Server
from workers.verify.sides import Sides
from workers.verify.wire import pack

SOURCE, TARGET = "source", "target"


@dataclass(frozen=True, slots=True)
class Share:
    """Of the keys of a database: a range of cursors of one server, or slots of a cluster."""

    range: Range | None = None
    slots: Ranges | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """One part.

    Args:
        side: SOURCE: keys of the source are compared; TARGET: keys that only the target has are looked for.
        pair: the databases.
        share: which keys of that side's database.
        keys: about how many they are.
    """

    side: str
    pair: Pair
    share: Share
    keys: int

    def as_dict(self) -> dict[str, Any]:
        """In types that JSON knows."""
        cursors, slots = self.share.range, self.share.slots
        return {
            "side": self.side,
            "pair": list(self.pair),
            "range": None if cursors is None else [cursors.bits, cursors.index, cursors.run],
            "slots": None if slots is None else hash_slots.written(slots),
            "keys": self.keys,
        }

    @classmethod
    def of(cls, given: dict[str, Any]) -> Self:
        """What `as_dict` has written."""
        cursors, slots = given["range"], given["slots"]
        share = Share(Range(*cursors) if cursors else None, None if slots is None else hash_slots.read(slots))
        return cls(given["side"], Pair(*given["pair"]), share, given["keys"])


def cut(sides: Sides, scope: Scope, before: Collection[Pair], *, extra: bool) -> list[Piece]:
    """The parts of all databases in scope that hold keys now, but for those that were cut before.

    Args:
        extra: whether keys are looked for that only the target has.
    """
    new = [pair for pair in pairs(sides, scope.databases) if pair not in before]
    found = [piece for pair in new for piece in _pieces(SOURCE, sides.source, pair, pair.source)]
    if extra:
        for pair in {pair.target: pair for pair in new}.values():
            found += _pieces(TARGET, sides.target, pair, pair.target)
    return found


def _pieces(side: str, server: Server, pair: Pair, db: int) -> Iterable[Piece]:
    keys = server.keys_by_db().get(db, 0)
    shares = _of_cluster(server.link) if isinstance(server.link, ClusterLink) else _of_one(server, db, keys)
    return [Piece(side, pair, share, keys // len(shares)) for share in shares]


def _of_cluster(link: ClusterLink) -> list[Share]:
    link.look_patiently()
    return [Share(slots=link.slots_of(place)) for place in link.masters]


def _of_one(server: Server, db: int, keys: int) -> list[Share]:
    info = server.link.info
    run, bits = info.get("run_id", ""), 0
    # A node of a cluster walks its slots one after the other: there cursors count in another way.
    if keys and info.get("redis_mode", info.get("server_mode")) == "standalone":
        cursor, _ = server.link.ask(db, pack(b"SCAN", b"0", b"COUNT", b"%d" % SCAN_COUNT), 1)[0]
        bits = bits_of(keys, int(cursor))
    return [Share(range=Range(bits, index, run)) for index in range(1 << bits)]
