"""TRIMSLOTS: all keys of some hash slots at once, of a source that is a cluster.

From 8.4 on a Redis master does not delete key by key what has gone on to another shard by CLUSTER MIGRATION. Its
replicas hear of it in one command, some time behind the move, or long behind it: it waits while writes are paused.
"""

from __future__ import annotations

from sync_tasks.slots import Ranges, meet, members, ranges
from workers.source.ask import Kind

TRIM = b"TRIMSLOTS"
SINCE = 8
"""Redis' major version."""


class Trimmed(Exception):
    """Slots on which a stream acts were emptied there: from that offset on it acts on them no more, what it has brought
    there goes, and what the source has there, if it is still to be carried, is added anew. Not an error.

    Args:
        slots: all of them.
    """

    def __init__(self, slots: Ranges) -> None:
        super().__init__("slots were emptied at the source")
        self.slots = slots


def trimmed(argv: list[bytes]) -> Ranges:
    """The slots of TRIMSLOTS RANGES <count> <first> <last> ... Raises ValueError, IndexError if it makes no sense."""
    if argv[1].upper() != b"RANGES" or len(argv) != 3 + 2 * int(argv[2]):
        raise ValueError
    pairs = tuple((int(first), int(last)) for first, last in zip(argv[3::2], argv[4::2], strict=True))
    return ranges(members(pairs))


def trim(argv: list[bytes], acts: Ranges) -> None:
    """Raise Trimmed if it concerns slots on which the stream acts; as `trimmed`."""
    if gone := meet(acts, trimmed(argv)):
        raise Trimmed(gone)


def may_trim(kind: Kind) -> bool:
    """Whether a source may still have keys of a slot that has gone on; one that says nothing of itself may."""
    return kind == Kind() or (kind.redis and kind.major >= SINCE)
