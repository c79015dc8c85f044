"""What the target says of a task's other source nodes: of which hash slots their streams take care."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sync_tasks.extent import Extent
from sync_tasks.names import checkpoint_key, taken_key
from sync_tasks.slots import mask, read
from workers.added import Addition
from workers.target.claim import ENDED, FINISHED
from workers.target.link import TargetLink

OVER = (FINISHED.encode(), ENDED.encode())
FIELDS = (b"state", b"extent", b"adding", b"leaving")


@dataclass(frozen=True, slots=True)
class Said:
    """Of all others together, each as a mask of slots.

    acts: of these a stream acts on keys. takes: these it is taking up, which puts keys there beside it. leaves: of
    these it has to remove what it has put there.
    """

    acts: int = 0
    takes: int = 0
    leaves: int = 0

    @property
    def any(self) -> int:
        """Slots of which somebody else takes care in one way or another."""
        return self.acts | self.takes | self.leaves


class Others:
    """Of one source node.

    Args:
        link: to the target.
        uid: of the task, or its lane.
        numbers: of the other nodes.

    It has to be asked each time: whoever owns another stream, by a database that has fallen back, perhaps, may change
    what it says in any moment. Only what its answer means is kept for as long as it is the same.
    """

    def __init__(self, link: TargetLink, uid: str, numbers: Sequence[int]) -> None:
        self._link = link
        self._asked: list[list[bytes | int]] = [[b"HMGET", checkpoint_key(uid, one), *FIELDS] for one in numbers]
        self._taken = [taken_key(uid, one) for one in numbers]

    def say(self) -> Said:
        """What they say now. Nothing may be in flight on the link."""
        return self._said(self._link.ask_all(self._asked)) if self._asked else Said()

    def watch(self) -> Said:
        """The same; if one of them begins to take slots up behind it, the next window is nil."""
        if not self._asked:
            return Said()
        return self._said(self._link.ask_all([[b"WATCH", *self._taken], *self._asked])[1:])

    def let_be(self) -> None:
        """No window follows upon `watch`."""
        if self._asked:
            self._link.ask(b"UNWATCH")

    def _said(self, answers: Sequence[Sequence[bytes | None]]) -> Said:
        acts = takes = leaves = 0
        for state, extent, adding, leaving in answers:
            if state not in OVER:
                acts |= _acted_on(extent or b"")
                takes |= _taken_up(adding or b"")
                leaves |= mask(read((leaving or b"").decode()))
        return Said(acts, takes, leaves)


@lru_cache(maxsize=64)
def _acted_on(extent: bytes) -> int:
    return mask(Extent.parse(extent.decode()).acts_on) if extent else 0


@lru_cache(maxsize=64)
def _taken_up(adding: bytes) -> int:
    one = Addition.parse(adding.decode())
    return 0 if one is None else mask(read(one.slots))
