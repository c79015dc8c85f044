"""Which shard of a source cluster a stream job follows, and whether slots are on their way to or from it."""

from __future__ import annotations

from dataclasses import dataclass

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, Side
from sync_tasks.slots import Ranges
from sync_tasks.topology import Shard, read, shards
from workers.ports import StreamPort
from workers.source.ask import Source


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


@dataclass(frozen=True, slots=True)
class Place:
    """What the master of a shard said of itself, in one answer.

    found: the cluster as it sees it. serves: its own slots. steady: none of them is on its way, in or out.
    """

    found: tuple[Shard, ...]
    serves: Ranges
    steady: bool


def place(source: Source, endpoint: Endpoint) -> Place:
    """Ask it. Raises KeyferryError, also while some slots are served by nobody."""
    text = source.cluster()
    found = read(text, (endpoint.host, endpoint.port), Side.SOURCE)
    line = next((line for line in text.splitlines() if "myself" in line.split()[2].split(",")), "")
    mine = next((shard for shard in found if line.startswith(shard.node_id)), None)
    return Place(tuple(found), mine.slots if mine else (), "[" not in line)
