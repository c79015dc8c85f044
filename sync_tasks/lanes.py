"""A target cluster in parts: what one of its masters serves, which has a checkpoint of its own.

A transaction reaches one node, and so does what it says of how far the target is. A lane is a part of the slots for
which one checkpoint speaks; Keyferry's own keys of a lane have a hash tag of one of its slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

from sync_tasks import slots as hash_slots
from sync_tasks.slots import SLOTS, Ranges, slot

if TYPE_CHECKING:
    from sync_tasks.topology import Shard


@dataclass(frozen=True, slots=True)
class Closed:
    """A lane that the stream of a source node has closed: where its master's own stream stood then.

    node: number of the source node. point: as `point.Point`. members, address: of the master's shard.
    """

    node: int
    point: str
    members: tuple[str, ...]
    address: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One part.

    number: from 0, never given twice in a run. tag: of the keys of our own. slots: none, once it is given up.
    later: it was made when slots had moved, while others were written to already. founded: numbers of the source nodes
    whose streams have a checkpoint there; of a later one. turn: how often it has given slots up. gave: which ones, and
    at which turn last: a checkpoint of an earlier turn says nothing of them, though the lane may have them again.
    closed: by each source node that is cut over, if there is a way back.
    """

    number: int
    tag: str
    slots: Ranges
    later: bool = False
    founded: tuple[int, ...] = ()
    turn: int = 0
    gave: tuple[tuple[int, Ranges], ...] = ()
    closed: tuple[Closed, ...] = field(default=(), compare=False)

    @property
    def home(self) -> int:
        """The slot of our own keys."""
        return slot(self.tag.encode())

    def uid(self, task: str) -> str:
        """In the place of a task's uid in the names of our own keys."""
        return f"{task}:{self.number}:{{{self.tag}}}"  # a tag may be given to another lane later

    def given_since(self, turn: int) -> Ranges:
        """Slots that it has given up since a turn; it may have some of them again."""
        return hash_slots.ranges(one for at, some in self.gave if at > turn for one in hash_slots.members(some))

    def serving(self, slots: Ranges) -> Lane:
        """The same lane with these slots."""
        now = hash_slots.members(slots)
        if not (gone := hash_slots.members(self.slots) - now):
            return replace(self, slots=slots)
        turn = self.turn + 1
        before = ((at, hash_slots.ranges(hash_slots.members(some) - gone)) for at, some in self.gave)
        gave = (*((at, some) for at, some in before if some), (turn, hash_slots.ranges(gone)))
        return replace(self, slots=slots, turn=turn, gave=gave)


def lanes_of(shards: Sequence[Shard]) -> tuple[Lane, ...]:
    """One for each shard. Our own keys are where its last slot is: whoever moves slots begins with the first ones."""
    return tuple(Lane(number, tags()[shard.slots[-1][1]], shard.slots) for number, shard in enumerate(shards))


def moved(lanes: Sequence[Lane], shards: Sequence[Shard]) -> tuple[Lane, ...]:
    """The lanes for slots that are elsewhere now; the same ones if they are not.

    A lane goes with its own keys: it has what their node serves. Of two at one node, one is given up; a node that has
    none gets one.
    """
    found = {lane.number: lane for lane in lanes}
    left = set(found)
    for shard in shards:
        there = [lane for lane in lanes if lane.slots and shard.serves(lane.home)]
        if there:
            kept = max(there, key=lambda lane: (_size(hash_slots.meet(lane.slots, shard.slots)), -lane.number))
        else:
            kept = Lane(max(found) + 1, tags()[shard.slots[-1][1]], (), later=True)
        found[kept.number] = kept.serving(shard.slots)
        left.discard(kept.number)
    for number in left:
        found[number] = found[number].serving(())
    return tuple(found.values())


def _size(given: Ranges | None) -> int:
    return sum(last - first + 1 for first, last in given or ())


def table(lanes: Sequence[Lane]) -> bytes:
    """For each slot the number of its lane, a byte each."""
    found = bytearray(SLOTS)
    for lane in lanes:
        for first, last in lane.slots:
            found[first : last + 1] = bytes([lane.number]) * (last - first + 1)
    return bytes(found)


def written(lanes: Iterable[Lane]) -> list[dict[str, Any]]:
    """As JSON keeps them."""
    return [
        {
            **asdict(one), "slots": _listed(one.slots), "founded": [*one.founded],
            "gave": [[turn, _listed(some)] for turn, some in one.gave],
        }
        for one in lanes
    ]  # fmt: skip


def _listed(slots: Ranges) -> list[list[int]]:
    return [list(pair) for pair in slots]


def _ranges(listed: Sequence[Sequence[int]]) -> Ranges:
    return tuple((int(first), int(last)) for first, last in listed)


def read(given: Sequence[dict[str, Any]] | None) -> tuple[Lane, ...]:
    """What `written` has made."""
    return tuple(
        Lane(
            one["number"], one["tag"], _ranges(one["slots"]), one["later"], tuple(one["founded"]), one.get("turn", 0),
            tuple((int(turn), _ranges(some)) for turn, some in one.get("gave", ())),
            tuple(Closed(**{**found, "members": tuple(found["members"])}) for found in one.get("closed", ())),
        )
        for one in given or ()
    )  # fmt: skip


def tag_of(key: bytes) -> str:
    """A hash tag of the slot that a key is in."""
    return tags()[slot(key)]


@cache
def tags() -> tuple[str, ...]:
    """For each slot a short text that hashes to it."""
    found: dict[int, str] = {}
    for number in count():
        text = f"{number:x}"
        found.setdefault(slot(text.encode()), text)
        if len(found) == SLOTS:
            return tuple(found[one] for one in range(SLOTS))
    raise AssertionError
