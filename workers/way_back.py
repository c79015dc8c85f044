"""The way back: where the target's own stream stood when it was closed, for a task that follows it from there.

    keep    a target that keeps no backlog is made to: it begins one for the first replica that asks it
    mark    just before the last window: where its stream stands. The window itself brings that into the checkpoint

What other clients write to the target before the mark is of the time before the cut-over. All of ours behind it is the
last window: expiries that are the source's own, so that they change nothing there, and keys of Keyferry.
"""

from __future__ import annotations

import contextlib
import time

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError, Side, TargetError
from sync_tasks.point import Point
from sync_tasks.topology import shards
from workers.codec.resp_cy import ReplyError
from workers.source.psync import ReplicaLink
from workers.target.link import TargetLink
from workers.target.windows import Chain

FIELD = b"back"
"""Of the checkpoint: a `Point`."""
PATIENCE_S = 5.0
LOOK_EVERY_S = 0.02


def mark(chain: Chain) -> Point | None:
    """Where the target's stream stands; nothing of the chain is in flight. None: it keeps none, or does not say.

    The transaction's own write, in the checkpoint's database, is the first thing behind that place: so the stream acts
    on that database there, or says first on which it does.
    """
    link = chain.link
    answers = link.try_all([[b"WATCH", chain.ck], [b"HGET", chain.ck, b"tok"]])
    if answers[-1] != chain.tok:  # another owner has claimed: our last window will not be executed either
        link.try_all([[b"UNWATCH"]])
        return None
    info = [b"INFO", b"replication"]
    *_, done = link.try_all([[b"MULTI"], [*info], [b"HSET", chain.ck, FIELD, b""], [b"EXEC"]])
    if not isinstance(done, list) or isinstance(done[0], ReplyError):
        return None
    return point(done[0], chain.db)


def point(info: bytes, db: int) -> Point | None:
    """What INFO replication says; None: it keeps no stream, or is of a version that has no ids for them."""
    fields = _fields(info)
    if fields.get("repl_backlog_active") != "1":
        return None
    return Point.parse(f"{fields.get('master_replid')}:{fields.get('master_repl_offset')}:{db}")


def servers(endpoint: Endpoint) -> list[Endpoint]:
    """Those of a target that have a stream of their own: of a cluster its masters. Raises as `topology.shards`."""
    return [endpoint.at(*shard.master) for shard in shards(endpoint)] if endpoint.is_cluster else [endpoint]


def keep(endpoint: Endpoint) -> bool:
    """See that the target keeps its stream, of a cluster each of its masters. Whether any had to be made to.

    It begins its backlog when a replica asks for the first time. We ask, and are gone before it has taken a snapshot:
    one without a disk waits for others first (`repl-diskless-sync-delay`), one that goes by the disk may fork once.

    Raises TargetError: it does not, or our user may not ask.
    """
    made = [_keep(one) for one in servers(endpoint)]
    return any(made)


def is_kept(endpoint: Endpoint) -> bool:
    """Whether the target keeps its stream, of a cluster all of its masters. Raises what the target answers."""
    for one in servers(endpoint):
        link = TargetLink(one, "keyferry-look", 0)
        try:
            if not _keeps(link):
                return False
        finally:
            link.close()
    return True


def _keep(endpoint: Endpoint) -> bool:
    """Of one server."""
    link = TargetLink(endpoint, "keyferry-way-back", 0)
    try:
        if _keeps(link):
            return False
        replica = ReplicaLink(endpoint)
        try:
            replica.ask_for_all()
            by = time.monotonic() + PATIENCE_S
            while not _keeps(link):
                replica.settimeout(LOOK_EVERY_S)
                with contextlib.suppress(TimeoutError):
                    replica.refused()
                if time.monotonic() > by:
                    raise TargetError("it began no backlog for a replica that asked")
                time.sleep(LOOK_EVERY_S)
        finally:
            replica.close()
        return True
    except KeyferryError as error:
        raise TargetError(
            f"the target cannot keep the way back: {error.message}",
            code="no-way-back",
            side=Side.TARGET,
            hint="attach a replica to it, or grant the user of the target URL +psync +replconf; or leave the way back",
        ) from error
    finally:
        link.close()


def _keeps(link: TargetLink) -> bool:
    return _fields(link.ask(b"INFO", b"replication")).get("repl_backlog_active") == "1"


def _fields(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
