"""By which script each part of a target cluster goes: all of them change it at one place of the stream.

Each lane reads the whole stream and keeps what the transform's script puts into its slots. Were one of them to go by a
changed script from another place on than the others, a command between the two places could take effect in two lanes,
or in none. So the checkpoint says which script it is, and since where; whoever begins with another compares what the
claims of all lanes have found: before a claim, windows of an earlier owner may still come, by the former script.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from sync_tasks.errors import ControlError, Retry
from workers.compose import emit
from workers.rewrite import IGNORED
from workers.spool.commands import commands
from workers.spool.log import Log
from workers.target.claim import STREAMING, Checkpoint
from workers.target.windows import Chain, commit

IDLE = IGNORED | {b"SELECT"}


@dataclass(frozen=True, slots=True)
class Since:
    """A script's digest, and the offset behind which the stream goes by it; "": none was noted."""

    digest: str
    offset: int

    def __str__(self) -> str:
        return f"{self.digest}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` has written."""
        digest, _, offset = text.partition(":")
        return cls(digest, int(offset or 0))


Place = tuple[int, int]
"""Of the stream: two offsets without a command of a script's between them."""


def agreed(digest: str, found: Sequence[Checkpoint | None], snapshot: int | None, log: Log) -> Place | None:
    """The place at which lanes take a script up that they do not go by yet; None: all do.

    Args:
        digest: of the script.
        found: the checkpoint of each lane; None: it has none.
        snapshot: where such a lane begins; None: it should have one, and is not counted.
        log: of the node.

    Raises ControlError (`transform-changed`): there is none.
    """
    streaming = [one for one in found if one is not None and one.state == STREAMING]
    scripts = [Since.parse(one.script) for one in streaming]
    places = {one.offset for one, since in zip(streaming, scripts, strict=True) if since.digest != digest}
    if snapshot is not None and streaming and None in found:
        places.add(snapshot)
    if not places:
        return None
    places |= {since.offset for since in scripts if since.digest == digest}
    place = min(places), max(places)
    if not all(since.digest for since in scripts) or not _is_idle(log, *place):
        raise changed()
    return place


class Agreement:
    """Of the lanes of one job: no lane says another script than it has before all of them have claimed.

    Args:
        digest: of the task's script.
        lanes: how many they are.
        snapshot: where a lane without a checkpoint begins; it answers None if each should have one.
        log: of the node.
    """

    def __init__(self, digest: str, lanes: int, snapshot: Callable[[], int | None], log: Log) -> None:
        self._digest, self._lanes, self._snapshot, self._log = digest, lanes, snapshot, log
        self._lock = threading.Lock()
        self._found: dict[int, Checkpoint | None] = {}  # by lane: what its last claim has found
        self._over: set[int] = set()  # lanes that are closed for good
        self._made = False
        self._place: Place | None = None

    def check(self, found: Sequence[Checkpoint | None]) -> None:
        """Raise ControlError (`transform-changed`) if what is seen without a claim stands against it already: a master
        that takes no claim would else say something else."""
        agreed(self._digest, found, self._snapshot(), self._log)

    def reach(self, lane: int, found: Checkpoint | None, pause: Callable[[float], None]) -> None:
        """Wait until all have claimed, if a lane whose claim has found this would have to say the script.

        Raises what `pause` does, and ControlError (`transform-changed`): they are not at one place.
        """
        with self._lock:
            self._found[lane] = found
        while not (self._has(found) or self._is_made()):
            pause(0.05)

    def leave(self, lane: int) -> None:
        """The lane is closed for good: nobody waits for it."""
        with self._lock:
            self._over.add(lane)

    def script(self, found: Checkpoint) -> str:
        """As `wanted`, at the place that was agreed upon."""
        return wanted(found, self._digest, self._place)

    def _has(self, found: Checkpoint | None) -> bool:
        """Whether the lane goes by the script: it has nothing to say, and waits for no other."""
        return found is not None and found.state == STREAMING and Since.parse(found.script).digest == self._digest

    def _is_made(self) -> bool:
        with self._lock:
            if not self._made and len(self._found.keys() | self._over) == self._lanes:
                found = [one for lane, one in self._found.items() if lane not in self._over]
                self._place = agreed(self._digest, found, self._snapshot(), self._log)
                self._made = True
            return self._made


def _is_idle(log: Log, start: int, stop: int) -> bool:
    """Whether the log has this part of the stream, and nothing of it passes a script."""
    if start == stop:
        return True
    if log.start is None or log.end is None or log.start > start or log.end < stop:
        return False
    return all(argv[0].upper() in IDLE for _, argv in commands(log, start, stop, 0, _give_up))


def _give_up() -> None:
    raise changed()


def wanted(found: Checkpoint, digest: str, place: Place | None) -> str:
    """What the checkpoint of a lane is to say before it goes on, by this script.

    Args:
        place: as `agreed` says.
    Raises ControlError: it stands elsewhere: the target has fallen back, perhaps.
    """
    if Since.parse(found.script).digest == digest:
        return found.script
    if place is None or not place[0] <= found.offset <= place[1]:
        raise changed()
    return str(Since(digest, place[1]))


def say(chain: Chain, found: Checkpoint, script: str) -> None:
    """Have it say so. Nothing may be in flight. Raises what the target answers."""
    if found.script != script:
        window = chain.own_window()
        emit(window, [b"HSET", chain.ck, b"script", script.encode()], window.end)
        commit(chain, window)


def changed() -> ControlError:
    """The lanes are at different places by the script that was there before."""
    return ControlError(
        "the transform was changed while the masters of the target cluster were not at one place of the stream: what"
        " lies between would pass another script for some of them than for others",
        code="transform-changed",
        retry=Retry.OTHER,
        hint="give the task its former script again, and change it while nobody writes to the source or while it stands"
        " at a command on which it fails; or restart the task with an empty target",
    )
