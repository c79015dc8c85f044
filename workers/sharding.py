"""Which shard of a source cluster a stream job follows, and whether slots are on their way to or from it."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, KeyferryError, Side
from sync_tasks.slots import Ranges, members, ranges, written
from sync_tasks.topology import Shard, read, shards, shortened
from workers.ports import StreamPort
from workers.source.ask import Source

UNSERVED_S = 10.0
"""Slots whose master has failed are its replica's sooner than that."""
UNTAKEN_S = 30.0
"""So long may pass between one stream that gives a slot up and another that takes it."""
ASK_S = 5.0
"""How often the database is asked for such ones."""


class Nobodys:
    """Slots that are nobody's. If that lasts, the source's retry window opens: nothing is in sync, nor cut over, and
    all streams may go on none the less.

    Args:
        port: the claimed job.
        patience_s: how long nothing is said of it.
    """

    def __init__(self, port: StreamPort, patience_s: float) -> None:
        self._port, self._patience_s = port, patience_s
        self._since: float | None = None
        self._told = False
        self._again_at = 0.0

    def are(self, error: KeyferryError) -> None:
        """There are some, as the error says. Raises what the database answers."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now >= max(self._since + self._patience_s, self._again_at):
            self._told, self._again_at = True, now + self._port.failing(error)

    def none(self) -> None:
        """There is none, or none any more."""
        self._since = None
        if self._told:
            self._told = False
            self._port.healed("source")


def of_node(port: StreamPort, source: Endpoint) -> Endpoint:
    """The server that a node's job follows: of a cluster the master of its shard, found anew for each connection.

    The first job of a task finds out which shards there are: each becomes a node.
    Raises KeyferryError: the cluster does not say, or does not serve all slots.
    """
    if not source.is_cluster:
        return source
    if port.node().shard is None:
        port.lay_out(shards(source))
    shard = port.node().shard
    if shard is None:
        raise ConnectionLost("the cluster has fewer shards than before", side=Side.SOURCE, code="no-shard")
    return source.of_shard(shard.members, shard.slots)


class Slots:
    """Of one job: whether its stream carries what its shard serves, and none of that is on its way.

    Of a server that stands alone that is always so, and of a cluster that is read by SCAN: each of its nodes carries
    the same slots all the time.

    Args:
        port: told of what has changed: the job then ends at a checkpoint, and the next shift carries other slots.
        source: of our own, to the master of the shard.
        endpoint: of that.
    """

    def __init__(self, port: StreamPort, source: Source, endpoint: Endpoint) -> None:
        self._port, self._source, self._endpoint = port, source, endpoint
        mine = port.node().slot_ranges
        self._text = None if mine is None else written(mine)
        if port.task.spec.reader != "psync":
            mine = None  # its slots are the same wherever they are
        self._mine = None if mine is None else members(mine)
        self.steady = mine is None  # as of the last look
        self.stale = False  # the node's slots are others than those that the job carries: it is to end
        self.whole = mine is None  # as of the last look, its shard serves all that it carries
        self._right = False  # as of the last look that was answered, its shard served just what it carries
        self.closing = False  # the streams of all shards stand still: none goes on any more
        self._stands: int | None = -1  # where the database says so; -1: it may be an earlier owner's word
        self._seen: object = None
        self._gone = False  # as of the last look, as `ShardView.gone`
        self._unserved, self._untaken = Nobodys(port, UNSERVED_S), Nobodys(port, UNTAKEN_S)
        self._left: Ranges = ()  # slots that no stream carried when the database was last asked
        self._asked_at = 0.0
        self._over: dict[int, int] = {}  # slots that are another's now: the offset behind all that ours had of them
        self._stream = ""  # replication id of the stream that these offsets are of

    def look(self, committed: int | None) -> None:
        """Ask, behind the question for an offset: if all is steady now, it was when that was asked.

        Args:
            committed: offset up to which the target has the stream. A slot that has gone to another shard is given up
                only when the target has all that came of it here, its end too: each key that moved away is deleted.
        Raises KeyferryError, also while some slots are served by nobody; if that lasts, the retry window opens.
        """
        if self._mine is None:
            return
        self.steady = False
        text = self._source.cluster()
        line = next(line for line in text.splitlines() if "myself" in line.split()[2].split(","))
        if "master" not in line.split()[2].split(","):
            self._source.close()  # the next connection is to whoever has its place
            return
        found = [replace(one, followed=line.startswith(one.node_id)) for one in self._whole(text)]
        seen = [(shard.slots, shard.master, shard.members) for shard in found]
        if seen != self._seen:
            self._port.lay_out(found)
            shard = self._port.node().shard
            self._gone = shard is not None and shard.gone
        # What another node's shard serves is for that node to take.
        now = set[int]().union(*(members(one.slots) for one in found if one.followed and not self._gone))
        right = self._right = now == self._mine
        if not right or seen != self._seen:
            left = self._undrained(self._mine - now, committed)
            end = max((self._over[slot] for slot in self._mine - now - left), default=0)
            self._port.reshard(found, ranges(now | left), end)
            self._seen = seen
            mine = self._port.node().slot_ranges
            self.stale = mine is not None and members(mine) != self._mine
        self.whole = self._mine <= now
        self.steady = right and "[" not in line
        self._miss()

    def _whole(self, text: str) -> list[Shard]:
        """The shards. Raises ConnectionLost while some slots are served by nobody."""
        try:
            found = read(text, (self._endpoint.host, self._endpoint.port), Side.SOURCE)
        except KeyferryError as error:
            self._unserved.are(error)
            raise
        self._unserved.none()
        return found

    def _miss(self) -> None:
        """Each master may take a slot for another one's, or that one's stream has no worker."""
        now = time.monotonic()
        if now - self._asked_at < ASK_S:
            return
        self._asked_at, before, self._left = now, self._left, self._port.untaken()
        if not before or self._left != before:
            self._untaken.none()
        if self._left:
            self._untaken.are(ConnectionLost(
                f"slots {shortened(members(self._left))} of the cluster are carried by no stream", side=Side.SOURCE,
                code="cluster-down",
                hint="compare CLUSTER NODES of all masters, and see CLUSTER SETSLOT where they differ; is there a"
                " stream worker for each shard?",
            ))  # fmt: skip

    def unsure(self) -> None:
        """The source could not be asked: slots may be on their way."""
        self.steady = self._mine is None

    def stand(self, offset: int | None) -> None:
        """The stream stands still, to be closed there; None: it goes on. Raises what the database answers.

        Slots may not have been on their way by then: it is looked once more.
        """
        if self._mine is None or self.closing:
            return
        if offset is not None and offset != self._stands:
            with contextlib.suppress(KeyferryError):
                self.look(None)
        offset = offset if self.steady else None
        if offset is not None or self._stands is not None:
            all_stand = self._port.stand(offset)
            self.closing = all_stand and self._right
            # An owner that has yet to look at the cluster, or to take what its shard serves, asks again.
            self._stands = -1 if all_stand and not self.closing else offset

    def leave(self) -> None:
        """The job ends: until another one has begun, the stream stands nowhere, unless all are to be closed where they
        stand. Raises what the database answers."""
        if self._mine is not None and not self.closing and self._stands not in (None, -1):
            self._stands = None
            self._port.stand(None)

    def heard(self, slots: str | None) -> None:
        """What the database says that the node is to carry: it may have fallen back to an earlier state."""
        if slots is not None and slots != self._text:
            self.stale = True

    def _undrained(self, lost: set[int], committed: int | None) -> set[int]:
        """Slots that are another's now, and of which the target has not all that came here."""
        if not lost:
            self._over = {}
            return set()
        at = self._source.position()
        if at.replid != self._stream:  # its offsets may be others
            self._over, self._stream = {}, at.replid
        self._over = {slot: self._over.get(slot, at.offset) for slot in lost}
        return {slot for slot, end in self._over.items() if committed is None or committed < end}
