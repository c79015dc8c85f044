"""By which script each part of a target cluster goes: all of them change it at one place of the stream.

Each lane reads the whole stream and keeps what the transform's script puts into its slots. Were one of them to go by a
changed script from another place on than the others, a command between the two places could take effect in two lanes,
or in none. So the checkpoint says which script it is, and since where; whoever begins with another compares.
"""

from __future__ import annotations

from collections.abc import Sequence
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
