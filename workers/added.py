"""How far the addition of databases or keys to a running stream is: what the target's checkpoint says of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256

from sync_tasks.extent import Extent

SCANNING, SWEEPING, CATCHING_UP = "scan", "sweep", "catch up"


class Added(Exception):
    """What was added is in scope from the checkpoint on, but for keys that are still doubted; not an error."""


@dataclass(frozen=True, slots=True)
class Addition:
    """An addition under way.

    to: digest of the extent that there will be.
    base: stream offset; each key that is added, and not named by the stream behind it, is on the target as at the
    source, as far as the walk over the source has come. db: the stream's database there.
    replid: of the stream: where the source was replaced by another server, all of it begins anew.
    run: id of the source's process: a cursor is worth nothing for another one.
    read: the last offset at which something was read: what is put may have effects of all up to there.
    todo, cursor: the source's databases that are still to be walked over, and where in the first of them.
    extend_ms: what expiries were put later than the source's, or MIXED.
    tries: how often it was begun anew. keys: put so far, some more than once.
    number: of the window that says so.
    again: it was begun before, so something of it may be on the target.
    slots: of a source that is a cluster, those that are added, or that a full sync in place brings besides, and then
    nothing else is said; "": none, or an earlier version began it.
    initial: nothing was in scope before: it is the copying with which the task began.
    """

    to: str
    base: int
    db: int
    replid: str
    extend_ms: int
    read: int = 0
    phase: str = SCANNING
    run: str = ""
    todo: list[int] = field(default_factory=list)
    cursor: int = 0
    tries: int = 0
    keys: int = 0
    number: int = 0
    again: bool = False
    slots: str = ""
    initial: bool = False

    @property
    def text(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def parse(cls, text: str, to: Extent | None = None) -> Addition | None:
        """What the checkpoint says; None: nothing of an addition, to `to` if that is given."""
        try:
            found = cls(**json.loads(text))
        except (ValueError, TypeError):
            return None
        return found if to is None or found.to == digest(to) else None

    def walked(self, run: str, cursor: int, keys: int) -> Addition:
        """Behind a step of the walk over the source."""
        todo = self.todo if cursor else self.todo[1:]
        phase = self.phase if todo else SWEEPING
        return replace(self, run=run, todo=todo, cursor=cursor, keys=self.keys + keys, phase=phase)


@dataclass(frozen=True, slots=True)
class Former:
    """Behind an addition: of all that the stream names up to `at`, keys in the former extent are not in doubt.

    db: the stream's database at that offset.
    """

    was: str
    at: int
    db: int

    @property
    def text(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Former | None:
        """What the checkpoint says; None: nothing of it."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    @property
    def extent(self) -> Extent:
        """The former one."""
        return Extent.parse(self.was)


def digest(extent: Extent) -> str:
    """What stands for an extent."""
    return sha256(extent.text.encode()).hexdigest()[:32]
