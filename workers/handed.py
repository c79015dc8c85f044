"""Slots that pass from one source node to another, as the target has it (`store.shards` is the database's part).

A node gives a slot up when the target has all that came of it there: every key is deleted by then. A target that falls
back to before has them again, and the stream does not act on them any more. So whoever claims there deletes what the
stream deletes up to where the slot was given up, and only then says that the slot is let go; and nobody else begins
with a slot of which the target still says that it is another stream's (`workers.others`). So does what was put there by
an addition that has come to nothing: it is in the checkpoint until it is gone again (`workers.leaving`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from sync_tasks.extent import Extent
from sync_tasks.lanes import Lane
from sync_tasks.slots import ALL, Ranges, members, ranges, read, written
from sync_tasks.views import NodeView
from workers.added import Addition
from workers.codec.slots_cy import slot
from workers.compose import emit, select
from workers.keys_of import keys_of
from workers.rewrite import SCRIPTS, WHOLE
from workers.scope import Scope
from workers.source.ask import Source
from workers.spool.commands import commands
from workers.spool.log import Log
from workers.target.claim import Checkpoint
from workers.target.link import TargetLink
from workers.target.windows import Chain, commit
from workers.wanted import Wanted

STEP_S = 0.05
BATCH = 500


def given_up(was: Extent, slots: Ranges | None, lane: Lane | None) -> Ranges:
    """Slots that a checkpoint's extent has and its source node has no more, as far as they are this lane's.

    Args:
        slots: that the node carries; None: it is no cluster's.
    """
    if slots is None:
        return ()
    here = members(was.acts_on) & members(ALL if lane is None else lane.slots)
    return ranges(here - members(slots))


def is_before(node: NodeView, found: Checkpoint) -> bool:
    """Whether a target has less of the stream than it had when the node gave slots up."""
    shard = node.shard
    return shard is not None and shard.drained[0] == found.gen and found.offset < shard.drained[1]


def clear(
    chain: Chain, log: Log, source: Source, found: Checkpoint, was: Extent, gone: Ranges, end: int,
    pause: Callable[[float], None],
) -> None:  # fmt: skip
    """Delete the keys of slots that the stream names up to where they were given up: there all are deleted.

    Args:
        found: the checkpoint that was claimed.
        was: its extent.
        gone: the slots.
        end: stream offset.
        pause: sleeps so many seconds; raises when the job is to stop.
    Raises Wanted if the stream does not name them all, and what target, log and source raise.
    """
    batch: list[tuple[int, bytes]] = []
    for at in _named(chain.link, log, source, found, was, gone, end, pause):
        batch.append(at)
        if len(batch) == BATCH:
            _delete(chain, batch)
            batch = []
    _delete(chain, batch)


def _named(
    link: TargetLink, log: Log, source: Source, found: Checkpoint, was: Extent, gone: Ranges, end: int,
    pause: Callable[[float], None],
) -> Iterator[tuple[int, bytes]]:  # fmt: skip
    mine, seen = members(gone), set[tuple[int, bytes]]()
    stream = commands(log, found.offset, end, found.db, lambda: pause(STEP_S))
    for (_, argv), places in keys_of(link, stream, source.named):
        name = argv[0].upper()
        if name in WHOLE or (name in SCRIPTS and not places):
            raise Wanted("the target fell back to before slots were given up that the source has emptied since")
        for db, key in places:
            to = was.target(db)
            if to is not None and slot(key) in mine and was.takes(db, key) and (to, key) not in seen:
                seen.add((to, key))
                yield to, key


def _delete(chain: Chain, keys: Sequence[tuple[int, bytes]]) -> None:
    if keys:
        window = chain.own_window()
        for to, key in keys:
            select(window, to, window.end)
            emit(window, [b"UNLINK", key], window.end)
        commit(chain, window)


def to_leave(found: Checkpoint, was: Extent, scope: Scope, acts: Ranges, more: Collection[int] = ()) -> str:
    """As `Checkpoint.leaving` is to be: what it says already, and what an addition, if there is one, was of that is not
    to be carried any more.

    Args:
        found: the checkpoint so far.
        was: its extent.
        scope: that the stream is to carry.
        acts: hash slots of which it acts on keys from now on: nothing is left of these.
        more: slots that are to be left besides.
    """
    if scope.slots is None:
        return ""
    slots = members(read(found.leaving)).union(more)
    if (addition := Addition.parse(found.adding)) is not None:
        slots |= members(was.acts_on).union(members(read(addition.slots))) - members(scope.extent.acts_on)
    if scope.lane is not None:
        slots &= members(scope.lane.slots)
    return written(ranges(slots - members(acts)))
