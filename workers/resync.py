"""A full sync in place: when one is needed, what stands against it, and how the target is told.

It is begun by a claim that puts `loading` and the snapshot's number into the checkpoint: all windows of the stream so
far answer nil from then on, and whoever takes over finds that the target is being loaded, until the first window behind
the new snapshot says `streaming` again. What the new snapshot lacks is removed by `workers.sweep`.
"""

from __future__ import annotations

import re

from sync_tasks.errors import CannotContinue, ConnectionLost, Retry, Side, SourceError
from sync_tasks.views import NodeView
from workers.scope import Scope
from workers.spool.known import Known
from workers.target.claim import LOADING, STREAMING, Checkpoint
from workers.target.evictions import evicts
from workers.target.link import TargetLink, lost
from workers.wanted import Wanted as Wanted

SPACE = re.compile(rb"db(\d+):keys=(\d+)")
FAR_FEWER = 10
"""A source that has so many times fewer keys than the target was emptied by somebody, or by accident."""
FEW = 100
"""Below so many keys nothing follows from their number."""


class Begun(Exception):
    """A full sync in place has begun: what the stream waits for will not come; not an error."""


def needed(node: NodeView, found: Checkpoint | None) -> bool:
    """Whether the target must be loaded by another snapshot than the database knows of.

    Args:
        node: as the database has it.
        found: the target's checkpoint.

    The target has lost its checkpoint, and so perhaps all it had. Or a full sync in place was begun on the target, and
    we died before the database knew, or it has lost its last commits. Or the target has fallen back to before that was
    begun, or ended: what has come since belongs to another stream. Or a window is missing in the stream that it has.
    """
    if found is None:
        return node.begun
    if _lacks(found):
        return True
    if found.state == LOADING:
        return node.begun or found.gen > node.gen
    return found.state == STREAMING and found.gen < node.gen


def ask(reason: str) -> ConnectionLost:
    """What is told while the receiver fetches the snapshot that is needed."""
    return lost(f"{reason}; it is loaded anew")


def reason(found: Checkpoint | None) -> str:
    """What is wrong with the target, if a full sync in place is `needed`."""
    if found is None:
        return "the target has lost its data, or Keyferry's keys"
    missing = found.number - found.windows
    if missing > 0:
        return (
            f"the target lacks {missing} windows before offset {found.offset}: it refused them, and took those behind"
            " them"
        )
    if missing < 0:
        return (
            f"the target has executed {-missing} windows of an owner that was none any more: it had refused what spoils"
            " them"
        )
    return "a full sync in place broke off, or the target has fallen back to before it"


def check(
    link: TargetLink,
    found: Checkpoint | None,
    known: Known,
    another: bool,
    source_keys: int | None,
    had_keys: int,
    blind: bool = False,
) -> None:
    """Raise what stands against loading a snapshot over a target that was streaming, before anything is touched.

    Args:
        link: to the target.
        found: the target's checkpoint.
        known: of the node.
        another: the new snapshot has another replication id than the stream so far.
        source_keys: what the source has now in the databases in scope.
        had_keys: what the target has now of all that we have brought, at most.
        blind: a transform has made other keys of what the source has.
    Raises CannotContinue, SourceError, and what the link raises.
    """
    if blind:
        raise _unsweepable()
    # A target that is being loaded has the offset of the stream before, of another source perhaps.
    offset = found.offset if found is not None and found.state == STREAMING else -1
    if not (known.whole if found is None else known.covers(found.gen, offset)):
        of_source = found is not None and found.state == STREAMING and not _lacks(found)
        why = "the source no longer has the stream that the target needs" if of_source else reason(found)
        raise CannotContinue(
            f"{why}; and the list of the keys that were brought to the target is not in this spool: what the source"
            " has deleted meanwhile could not be told",
            side=Side.SOURCE if of_source else Side.TARGET,
            hint="restart the task with an empty target; raise repl-backlog-size on the source, let hosts share their"
            " spool",
        )
    if found is None and evicts(link):
        raise CannotContinue(
            "the target has evicted Keyferry's checkpoint, and would evict the next one",
            side=Side.TARGET,
            hint="set maxmemory-policy noeviction there, give it more memory; restart the task with an empty target",
        )
    if another and source_keys is not None:
        check_emptied(source_keys, had_keys)


def check_emptied(source_keys: int, had_keys: int) -> None:
    """Raise SourceError if the source has far fewer keys than the target has of what we have brought."""
    if had_keys >= FEW and source_keys * FAR_FEWER < had_keys:
        raise SourceError(
            f"the source was restarted and has {source_keys} keys, the target {had_keys}: to go on would remove most"
            " of them",
            code="source-emptied",
            hint="bring the source's data back, then it goes on by itself; if it is meant so, empty the target and"
            " restart the task",
            retry=Retry.OTHER,
        )


def _unsweepable() -> CannotContinue:
    """Under a transform what the source has deleted meanwhile cannot be told by the names that the target has."""
    return CannotContinue(
        "the target needs a full sync in place, which a transform does not allow: which of its keys come from keys that"
        " the source has deleted meanwhile cannot be told",
        side=Side.TARGET,
        hint="empty the target and restart the task",
    )


def _lacks(found: Checkpoint) -> bool:
    """Whether the target has refused the gate of a window that it then executed wrongly."""
    return found.number != found.windows


def brought(node: NodeView, known: Known) -> int:
    """How many keys we have brought to the target, at most."""
    return max(node.keys_total or 0, sum(map(known.count, known.databases())))


def keys_there(link: TargetLink, scope: Scope) -> int:
    """How many keys the target has in the databases in scope."""
    spaces = {int(db): int(keys) for db, keys in SPACE.findall(link.ask(b"INFO", b"keyspace"))}
    mine = spaces if scope.databases is None else set(scope.databases.values())
    return sum(spaces.get(db, 0) for db in mine)
