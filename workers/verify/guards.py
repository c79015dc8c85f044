"""The streams that write to a target from the source at hand: what is written beside them must be in step with them.

A value that is copied while a stream is under way is right at one place of the stream alone. So it is written by a
script that looks at the stream's checkpoint first, in the same moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sync_tasks.errors import TargetError
from sync_tasks.extent import Extent
from sync_tasks.names import KEY_PREFIX
from sync_tasks.slots import Ranges
from workers.link import Link
from workers.target.claim import LOADING, MIXED, STREAMING

PATTERN = KEY_PREFIX + b"*:ck"
COUNT = 10_000
KEYS = re.compile(rb"^db(\d+):keys=", re.MULTILINE)

SCRIPT = b"""
local at = 2
for i = 1, tonumber(ARGV[1]) do
  redis.call('SELECT', ARGV[at])
  local found = redis.call('HMGET', ARGV[at + 4], 'replid', 'offset', 'state', 'held', 'extent')
  if found[1] ~= ARGV[at + 1] or found[3] ~= 'streaming' then return 'other' end
  local offset = tonumber(found[2])
  if offset < tonumber(ARGV[at + 2]) or found[4] ~= '0' then return 'behind' end
  if offset > tonumber(ARGV[at + 3]) then return 'passed' end
  if ARGV[at + 5] ~= '' and found[5] ~= ARGV[at + 5] then return 'slots' end
  at = at + 6
end
redis.call('SELECT', ARGV[at])
at = at + 1
while at < #ARGV do
  local last = at + tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, last))
  at = last + 1
end
return 'done'
"""
"""Keys: the checkpoints, then all that is written; in a cluster none, for they have several slots, all of one node.
Arguments: how many checkpoints; of each its database, replication id, the offsets between which the values are true,
its key, and its extent if that is not to have changed; the database; the commands, each behind the number of its
words."""

DONE, BEHIND, PASSED, SLOTS, OTHER = b"done", b"behind", b"passed", b"slots", b"other"
"""What the script answers: written; the stream is to come to where the values are true, and to settle its expiries; it
has gone on; it carries other slots by now; it is no longer the same."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A checkpoint: the database it lies in, its key, and the replication id of its stream.

    extent: of a source that is a cluster, what the stream acts on, as the checkpoint has it; slots: of that.
    """

    db: int
    key: bytes
    replid: str
    extent: str = ""
    slots: Ranges | None = None


def guards(link: Link, replids: Iterable[str], extend_ms: int, *, slots: bool = False) -> list[Guard]:
    """Of the streams under way on the target from a source of these replication ids.

    Args:
        replids: that the source has, and that it had before it was promoted: a stream that is behind still has that.
        extend_ms: what expiries are to be later on the target.
        slots: the source is a cluster, and each stream carries slots of it.
    Raises TargetError while a task loads, whichever: of what it loads it does not say; for one that has other expiries
    in mind; and if all that follow have other ids.
    """
    found, others = [], False
    known = {replid.encode() for replid in replids}
    for db, key in _checkpoints(link):
        replid, state, extend, extent = link.ask(b"HMGET", key, b"replid", b"state", b"extend", b"extent")
        if state is None or state == LOADING.encode():
            raise TargetError("a task loads this target", hint="repair once it is in sync", code="loading")
        if state != STREAMING.encode():
            continue
        if replid not in known:
            others = True
            continue
        if extend is not None and int(extend) not in (extend_ms, MIXED):
            raise TargetError(
                f"its task has expiries on the target {int(extend) / 1000:g} s later than at the source, and not"
                f" {extend_ms / 1000:g} s",
                hint="give --config with the task's extend_expiry_s",
                code="extend-expiry",
            )
        text = extent.decode() if slots and extent else ""
        found.append(Guard(db, key, replid.decode(), text, Extent.parse(text).slots if text else None))
    if others and not found:
        raise TargetError(
            "a task follows to this target, from another source or from this one before it was replaced",
            hint="repair once it is in sync with this source, or has ended",
            code="other-task",
        )
    return found


def _checkpoints(link: Link) -> Iterator[tuple[int, bytes]]:
    """Database and key of each; the link is in that database."""
    for db in map(int, KEYS.findall(link.ask(b"INFO", b"keyspace"))):
        cursor = b"0"
        while True:
            link.ask(b"SELECT", db)
            cursor, keys = link.ask(b"SCAN", cursor, b"MATCH", PATTERN, b"COUNT", COUNT)
            yield from ((db, key) for key in keys)
            if cursor == b"0":
                break


def standing(link: Link, watched: list[Guard]) -> int | None:
    """The least offset at which the target's streams stand; None: expiries are held there still, or it is not said."""
    offsets = []
    for guard in watched:
        link.ask(b"SELECT", guard.db)
        offset, held = link.ask(b"HMGET", guard.key, b"offset", b"held")
        if offset is None or held != b"0":
            return None
        offsets.append(int(offset))
    return min(offsets, default=None)


def written(
    link: Link, watched: list[Guard], since: int, until: int, db: int, commands: list[tuple[bytes, list[bytes]]],
    apart: bool = False,
) -> bytes:  # fmt: skip
    """Write what is true between two offsets of the source's stream, if the target's streams stand there.

    Args:
        db: of the target.
        commands: each with the key that it writes.
        apart: the keys have several slots, since the target is a node of a cluster.
    Returns DONE, BEHIND, PASSED, SLOTS or OTHER. Raises what the target answers.
    """
    words: list[bytes | int] = [len(watched)]
    for guard in watched:
        words += [guard.db, guard.replid.encode(), since, until, guard.key, guard.extent.encode()]
    words.append(db)
    for _, argv in commands:
        words += [len(argv), *argv]
    keys = [] if apart else [guard.key for guard in watched] + [key for key, _ in commands]
    answer = link.ask(b"EVAL", SCRIPT, len(keys), *keys, *words)
    assert isinstance(answer, bytes)
    return answer


