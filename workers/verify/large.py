"""Large values, compared in pieces, so that memory depends on no value's size, only on its largest element's.

A value is seen as elements, each of which can be read by itself: fields, members, entries, blocks of a string
or list. The source's are walked in pages and asked for on the target; where the sides do not have equally
many, the target's are walked too. What differs is given time, element by element: a large hash may be written
to all the time without ever being equal as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.verify.elements import Elements, Place
from workers.verify.findings import Finding, Kind, Pair
from workers.verify.flux import Patience
from workers.verify.outlived import Outlived
from workers.verify.pieces import (
    HashFields,
    HashTimes,
    ListBlocks,
    Payload,
    SetMembers,
    StringBlocks,
    ZsetMembers,
)
from workers.verify.shift import NONE
from workers.verify.sides import Sides
from workers.verify.stream_pieces import Entries, Metadata, PendingEntries

MOST_SUSPECTS = 5_000  # elements that are given time together

View = type[Elements]

VIEWS: dict[bytes, tuple[tuple[Kind, View], ...]] = {
    b"string": ((Kind.VALUE, StringBlocks),),
    b"list": ((Kind.VALUE, ListBlocks),),
    b"set": ((Kind.VALUE, SetMembers),),
    b"zset": ((Kind.VALUE, ZsetMembers),),
    b"hash": ((Kind.VALUE, HashFields), (Kind.EXPIRY, HashTimes)),
    b"stream": ((Kind.VALUE, Entries), (Kind.VALUE, Metadata), (Kind.VALUE, PendingEntries)),
}
OTHER = ((Kind.VALUE, Payload),)
"""Types of modules cannot be read in pieces."""


MOVES = 5
"""That the node of a key may change while it is walked: its cursors mean nothing to the next one."""


def compare_large(
    sides: Sides, outlived: Outlived, pair: Pair, key: bytes, type_name: bytes, size: int
) -> list[Finding]:
    """`_compare_large`, once more if the key has moved to another node of a cluster meanwhile."""

    def where() -> tuple[object, object]:
        return sides.source.link.node_of(pair.source, key), sides.target.link.node_of(pair.target, key)

    before = where()
    found = _compare_large(sides, outlived, pair, key, type_name, size)
    for _ in range(MOVES):
        if (after := where()) == before:
            break
        before, found = after, _compare_large(sides, outlived, pair, key, type_name, size)
    return found


def _compare_large(
    sides: Sides, outlived: Outlived, pair: Pair, key: bytes, type_name: bytes, size: int
) -> list[Finding]:
    """What differs for good in one large value; its findings are proven.

    Args:
        outlived: knows what the target may hold.
        size: bytes of memory of the larger side.
    """
    source = Place(sides.source, pair.source, key, sides.shift, size, sides.counters)
    target = Place(sides.target, pair.target, key, NONE, size, sides.counters, outlived)
    sides.source.now_ms()
    found: dict[Kind, Finding] = {}
    for kind, view in VIEWS.get(type_name, OTHER):
        if kind in found or (kind is Kind.EXPIRY and not sides.timed_fields):
            continue
        ours, theirs = view(source), view(target)
        theirs.like(ours)
        part = difference(ours, theirs, sides.patience)
        outlived.count += theirs.explained
        if part is not None:
            found[kind] = Finding(pair, key, kind, part, proven=True)
    return list(found.values())


def difference(ours: Elements, theirs: Elements, patience: Patience) -> bytes | None:
    """The name of an element that differs for good, or None."""
    before = ours.count()
    there = Walked()
    part = _walk(ours, theirs, patience, there)
    if part is not None:
        return part
    after = ours.count()
    all_shown = there.shown == before or not ours.hides
    if all_shown and not there.moved and before == after == theirs.count():
        return None
    return _walk(ours, theirs, patience, Walked(), back=True)


@dataclass(slots=True)
class Walked:
    """What a walk came by.

    Args:
        shown: elements.
        moved: whether any differed for a moment.
    """

    shown: int = 0
    moved: bool = False


def _walk(ours: Elements, theirs: Elements, patience: Patience, walk: Walked, *, back: bool = False) -> bytes | None:
    """Walk the source, or `back` over the target for what the source lacks.

    Returns the name of an element that differs for good.
    """
    walked, asked = (theirs, ours) if back else (ours, theirs)
    suspects: dict[object, None] = {}

    def convicted() -> bytes | None:
        left = patience.lasting(list(suspects), ours.read, theirs.read)
        suspects.clear()
        tokens = list(zip(left, ours.read(left), theirs.read(left), strict=True))
        over = theirs.over([name for name, a, _ in tokens if a is None])
        return next((ours.name(name) for name, a, b in tokens if ours.differ(a, b) and name not in over), None)

    for page in walked.pages():
        names = list(page)
        tokens = zip(names, asked.read(names), strict=True)
        found = [name for name, token in tokens if (token is None or not back) and walked.differ(page[name], token)]
        over = theirs.over(found) if back else set()
        suspects.update(dict.fromkeys(name for name in found if name not in over))
        walk.shown += len(names)
        walk.moved = walk.moved or bool(found)
        if len(suspects) >= MOST_SUSPECTS and (part := convicted()) is not None:
            return part
    return convicted()
