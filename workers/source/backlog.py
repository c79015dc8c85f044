"""A source's stream without a snapshot: continued from where the source stands, by what its backlog keeps.

`+CONTINUE` sends no SELECT, and so does not say on which database the stream acts at that place. The source is made to
say it: an empty message, which nobody hears, is published from two databases; a server passes each on to its replicas
with the database of who published it, so at least one SELECT goes before them. The task begins behind the first one.
"""

from __future__ import annotations

import time

from sync_tasks.endpoints import SOCKET_TIMEOUT_S, Endpoint
from sync_tasks.errors import ConnectionLost, Retry, Side, SourceError
from sync_tasks.names import STREAM_CHANNEL
from sync_tasks.point import Point
from workers.codec.resp_cy import MORE, ReplyError, Scanner
from workers.link import Link
from workers.source.ask import _fields
from workers.source.psync import Full, ReplicaLink

PATIENCE_S = 5.0
STEP_S = 0.2
MOST_BYTES = 64 << 20
"""Of the stream, that are looked at for its first SELECT: a source that writes so much before it is asked again."""
SPECIAL = {b"SELECT": "select", b"MULTI": "multi", b"EXEC": "exec"}
OTHER = 1
"""A database besides the first; a server that has none acts on the first alone."""


def keeps(info: dict[str, str], replid: str | None, offset: int | None) -> bool:
    """Whether a source goes on behind a place of its stream without a snapshot.

    Args:
        info: INFO replication of it.
        replid, offset: the place; None: no place.
    Source: masterTryPartialResync of Redis' src/replication.c; Valkey's does the same.
    """
    if replid is None or offset is None or info.get("repl_backlog_active") != "1":
        return False
    first, held = int(info.get("repl_backlog_first_byte_offset", 0)), int(info.get("repl_backlog_histlen", 0))
    own = replid == info.get("master_replid")
    former = replid == info.get("master_replid2") and offset + 1 <= int(info.get("second_repl_offset", -1))
    return first <= offset + 1 <= first + held and (own or former)


def replication(endpoint: Endpoint) -> dict[str, str]:
    """What a source says of its stream. Raises what it answers."""
    link = Link(endpoint, "keyferry-ask", 0, SOCKET_TIMEOUT_S)
    try:
        return _said(link)
    finally:
        link.close()


def _said(link: Link) -> dict[str, str]:
    """A server that loads its data, its own or a new master's, does not know yet which stream it has: the PING is
    refused then."""
    return _fields(link.ask_all([[b"PING"], [b"INFO", b"replication"]])[1])


def begin(endpoint: Endpoint) -> tuple[Point, ReplicaLink]:
    """A place in a source's stream where its database is known, and a link that goes on behind it; the source was
    behind all that comes before when this was called.

    The link is the caller's to close. It is kept, since a busy source may have lost the place from its backlog by the
    time that it is asked for it once more.
    Raises SourceError (`no-backlog`): only a snapshot would bring the stream. ConnectionLost, CredentialsRefused.
    """
    link = Link(endpoint, "keyferry-begin", 0, SOCKET_TIMEOUT_S)
    try:
        info = _said(link)
        if info.get("role") != "master":
            raise refused("is a replica, and passes on its master's stream alone", "name the master as the source")
        replid, offset = info.get("master_replid"), int(info.get("master_repl_offset", 0))
        if replid is None or not keeps(info, replid, offset):
            raise refused("keeps no backlog", "attach a replica to it once: from then on it keeps one")
        replica = ReplicaLink(endpoint)
        try:
            answer = replica.psync(replid, offset)
            if isinstance(answer, Full):
                raise declined()
            return _known(link, replica, answer.replid or replid, offset), replica
        except BaseException:
            replica.close()
            raise
    finally:
        link.close()


def _known(link: Link, replica: ReplicaLink, replid: str, offset: int) -> Point:
    """Behind the first SELECT of a stream that goes on behind `offset`; the replica's link is left there."""
    message = [b"PUBLISH", STREAM_CHANNEL, b""]
    link.ask_all([list(message)])
    (chosen,) = link.try_all([[b"SELECT", OTHER]])
    if isinstance(chosen, ReplyError):
        if b"out of range" not in chosen.line:
            raise refused("does not let the user SELECT", "grant it +select")
        return Point(replid, offset, 0)  # it has one database
    link.ask_all([list(message)])
    data, position, scanner, by = b"", 0, Scanner(SPECIAL), time.monotonic() + PATIENCE_S
    db, inside = None, False  # of a transaction, behind which alone a stream can begin
    replica.settimeout(STEP_S)
    while time.monotonic() < by and len(data) < MOST_BYTES:
        try:
            data += replica.receive()
        except TimeoutError:
            continue
        while True:
            end, _, why, argv, after, _ = scanner.scan(data, position, 1 << 62, 1 << 62)
            if why == MORE:
                position = end
                break
            position, name = after, argv[0].upper()
            inside = name == b"MULTI" or (inside and name != b"EXEC")
            db = int(argv[1]) if name == b"SELECT" else db
            if db is not None and not inside:
                replica.unread(data[after:])
                return Point(replid, offset + after, db)
    raise ConnectionLost(
        "the source does not say in its stream on which database that acts", side=Side.SOURCE,
        hint="it is asked again by itself",
    )  # fmt: skip


def refused(what: str, hint: str) -> SourceError:
    """Why the stream cannot be had without a snapshot."""
    return SourceError(
        f"the source {what}: its stream cannot be followed without a snapshot", code="no-backlog",
        hint=f'{hint}; or set scan_changes = "notifications" and restart the task', retry=Retry.OTHER,
    )  # fmt: skip


def declined() -> ConnectionLost:
    """The source would send a snapshot: the link is ended before that comes."""
    return ConnectionLost(
        "the source no longer has its stream from where it is to go on, and its snapshot is not taken",
        side=Side.SOURCE, hint="its keys are read anew by itself; a larger repl-backlog-size there bridges longer cuts",
    )  # fmt: skip
