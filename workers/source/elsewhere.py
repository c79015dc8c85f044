"""Keys of a cluster that the node which is asked does not answer for: their slots are another one's, or on their way.

Where it has no key of a slot at all, its stream has said what has become of each of them: they are gone there, and that
is all there is to know of them here. Else it is waited for the slot. Any node counts the keys that it has itself of any
slot, in a script, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from workers.codec.resp_cy import ReplyError
from workers.codec.slots_cy import slot

Place = tuple[int, int]
"""The source's number of a database, and a hash slot: a node counts the keys of the database that is selected."""
AWAY = re.compile(rb"-?(MOVED|ASK|TRYAGAIN|CROSSSLOT)\b|.*non local key", re.DOTALL)
COUNT = (b"CLUSTER", b"COUNTKEYSINSLOT")


def is_elsewhere(answer: ReplyError) -> bool:
    """Whether a node refuses to say something of a key since it does not serve it, or not alone."""
    return AWAY.match(answer.line) is not None


def place(at: tuple[int, bytes]) -> Place:
    """Of a key."""
    return at[0], slot(at[1])


def counting(places: Collection[Place]) -> Iterable[tuple[bytes | int, ...]]:
    """Commands that count what the node has there, in order, each behind a SELECT."""
    for db, number in sorted(places):
        yield from ((b"SELECT", db), (*COUNT, number))
