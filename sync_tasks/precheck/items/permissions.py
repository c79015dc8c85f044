"""Item, for each side: the user may do what the task will do. Asked without doing it."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

from sync_tasks import names
from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import CredentialsRefused, KeyferryError, Side, SourceError
from sync_tasks.lanes import tags
from sync_tasks.precheck.facts import located
from sync_tasks.precheck.grants import CONTINUING, LISTENING, OF_CLUSTER, SCANNING
from sync_tasks.precheck.item import Answer, Item, passed
from sync_tasks.precheck.scene import Scene
from sync_tasks.slots import members, read

PROBE = names.KEY_PREFIX + b"precheck"
WRITES: tuple[tuple[bytes, ...], ...] = (
    (b"SET", PROBE, b"1"),
    (b"MSET", PROBE, b"1"),
    (b"RESTORE", PROBE, b"0", b"x"),
    (b"HSET", PROBE, b"a", b"1"),
    (b"HSETNX", PROBE, b"a", b"1"),
    (b"HDEL", PROBE, b"a"),
    (b"HMGET", PROBE, b"a"),
    (b"PEXPIREAT", PROBE, b"1"),
    (b"PEXPIRETIME", PROBE),
    (b"RENAME", PROBE, PROBE),
    (b"INCRBY", PROBE, b"1"),
    (b"DUMP", PROBE),
    (b"UNLINK", PROBE),
    (b"DEL", PROBE),
    (b"SCAN", b"0"),
    (b"SELECT", b"0"),
)
"""What loading and following say to any target. They are queued by MULTI, which checks, and discarded."""

FOLLOWING: tuple[tuple[bytes, ...], ...] = (
    (b"PSYNC", b"?", b"-1"),
    (b"REPLCONF", b"capa", b"eof"),
)


CONTINUED: tuple[tuple[bytes, ...], ...] = ((b"PUBLISH", names.STREAM_CHANNEL, b""),)
"""What it says besides to a source whose stream is continued without a snapshot."""
READING: tuple[tuple[bytes, ...], ...] = (
    (b"INFO", b"server"),
    (b"TIME",),
    (b"SCAN", b"0", b"COUNT", b"1"),
    (b"RANDOMKEY",),
    (b"DUMP", PROBE),
    (b"PTTL", PROBE),
    (b"PEXPIRETIME", PROBE),
    (b"MULTI",),
    (b"DISCARD",),
)
"""What the reader `scan` says."""
FOLLOWED: tuple[tuple[bytes, ...], ...] = (
    (b"INFO", b"commandstats"),
    (b"EXISTS", PROBE),
    (b"MEMORY", b"USAGE", PROBE),
    (b"PSUBSCRIBE", b"__keyevent@*__:*", b"__keyspace@*__:*"),
)
"""What it says besides, to a source that is followed; the last one ends the connection's use for others."""
OF_SLOTS: tuple[tuple[bytes, ...], ...] = (
    (b"CLUSTER", b"COUNTKEYSINSLOT", b"0"),
    (b"CLUSTER", b"GETKEYSINSLOT", b"0", b"1"),
    (b"ASKING",),
)
"""What it says besides, to each node of a cluster."""


def _source(scene: Scene) -> Answer:
    if scene.spec.continues:
        return scene.ask(Side.SOURCE, partial(may_continue, scene.source))
    if scene.spec.reader == "scan":
        return scene.ask(Side.SOURCE, partial(may_read, scene.source, listens=scene.spec.listens))
    return scene.ask(Side.SOURCE, partial(may_follow, scene.source))


def may_continue(endpoint: Endpoint, client: Any) -> Answer:
    """Whether the user may read by SCAN, and follow the stream."""
    may_read(endpoint, client)
    return may_follow(endpoint, client, CONTINUED, " ".join(("", *CONTINUING)))


def may_follow(
    endpoint: Endpoint, client: Any, more: tuple[tuple[bytes, ...], ...] = (), grants: str = ""
) -> Answer:
    """By ACL DRYRUN, where the server has it and lets the user ask it; some providers have taken PSYNC away.

    Args:
        more: that the task says besides, by what grants.
    """
    from redis import RedisError

    known = _described(client)
    if known is False:
        raise SourceError(
            f"{endpoint.address()} has no PSYNC: its provider forbids replication, or has renamed it",
            hint="ask the provider to allow it, or name a replica of yours",
            code="no-psync",
        )
    if endpoint.is_cluster:
        _may_read_at_once(endpoint, client)
    try:
        user = client.execute_command("ACL", "WHOAMI")
        answers = [client.execute_command("ACL", "DRYRUN", user, *command) for command in (*FOLLOWING, *more)]
    except RedisError:
        return passed("PSYNC is there; whether the user may call it shows when it does")
    for command, answer in zip((*FOLLOWING, *more), answers, strict=True):
        if answer not in (b"OK", "OK", True):
            raise CredentialsRefused(
                f"{endpoint.address()}: the user may not run {command[0].decode()}",
                side=Side.SOURCE,
                hint=f"grant +psync +replconf{grants} and the reading commands on all keys: `keyferry task check` shows"
                " how",
            )
    return passed("the user may replicate")


def may_read(endpoint: Endpoint, client: Any, *, listens: bool = False) -> Answer:
    """Whether the user may do what the reader `scan` does: it is done, once, on a key that is not there.

    Args:
        listens: and follows the source by its notifications.
    """
    from redis.exceptions import NoPermissionError, ResponseError

    of_slots, key = (OF_SLOTS, _served(client)) if endpoint.is_cluster else ((), PROBE)
    needed = [*SCANNING, *(OF_CLUSTER if of_slots else ()), *(LISTENING if listens else ())]
    for command in [*READING, *of_slots, *(FOLLOWED if listens else ())]:
        try:
            client.execute_command(*(key if word == PROBE else word for word in command))
        except NoPermissionError as error:
            raise CredentialsRefused(
                f"{endpoint.address()}: the user may not run {command[0].decode()}: {error}",
                side=Side.SOURCE,
                hint="grant %R~* %R~ (before 7.0 ~*) " + " ".join(needed),
            ) from error
        except ResponseError as error:
            if command[0] != b"PEXPIRETIME":  # new in 7.0; PTTL stands in for it
                raise located(classify(error, Side.SOURCE), endpoint) from error
    return passed("the user may read by SCAN and DUMP")


def _may_read_at_once(endpoint: Endpoint, client: Any) -> None:
    """Of a cluster keys of several slots are read at one moment by a script; this one does nothing."""
    from redis.exceptions import NoPermissionError, ResponseError

    try:
        client.execute_command("EVAL", "return 1", 0)
    except (NoPermissionError, ResponseError) as error:
        raise CredentialsRefused(
            f"{endpoint.address()}: the user may not run EVAL: {error}",
            side=Side.SOURCE,
            hint="of a cluster grant +cluster and +eval, too, on each node",
        ) from error


def _described(client: Any) -> bool | None:
    """Whether it has PSYNC; None: it does not say."""
    from redis import RedisError

    connection = client.connection_pool.get_connection()
    try:
        connection.send_command("COMMAND", "INFO", "PSYNC")
        answer = connection.read_response()
    except RedisError:
        return None
    finally:
        client.connection_pool.release(connection)
    return bool(answer[0]) if isinstance(answer, list) and answer else None


def _target(scene: Scene) -> Answer:
    return scene.ask(Side.TARGET, partial(_takes_writes, scene.target))


def _served(client: Any) -> bytes:
    """A key of ours that a master of a cluster serves: of another one's it would say nothing but where that is."""
    text: str = client.execute_command("CLUSTER", "NODES").decode()
    mine = next(line for line in text.splitlines() if "myself" in line.split()[2])
    slots = {one for part in mine.split()[8:] if part[0] != "[" for one in members(read(part))}
    away = {int(part[1:].split("-")[0]) for part in mine.split()[8:] if part[0] == "["}
    return b"keyferry:{%s}:none" % tags()[min(slots - away or slots)].encode()


def _takes_writes(endpoint: Endpoint, client: Any) -> Answer:
    """Permissions, read-only, out of memory, a failed save: raises its own answer."""
    key = _served(client) if endpoint.is_cluster else PROBE
    commands = [tuple(key if word == PROBE else word for word in command) for command in WRITES]
    connection: Any = client.connection_pool.get_connection()
    try:
        connection.send_command(b"MULTI")
        _raise_refusal(connection, endpoint)
        for command in commands:
            connection.send_command(*command)
        answers = [(command, _refusal(connection, endpoint)) for command in commands]
        refusals = [refusal for command, refusal in answers if refusal and _matters(command, refusal)]
        connection.send_command(b"DISCARD")
        _refusal(connection, endpoint)
    finally:
        with contextlib.suppress(Exception):
            connection.disconnect()
    if refusals:
        raise refusals[0]
    return passed("the user may write, and writes are taken")


def _matters(command: tuple[bytes, ...], refusal: KeyferryError) -> bool:
    """PEXPIRETIME is new in 7.0; without it times are read another way."""
    return command[0] != b"PEXPIRETIME" or refusal.code == CredentialsRefused.code


def _raise_refusal(connection: Any, endpoint: Endpoint) -> None:
    refusal = _refusal(connection, endpoint)
    if refusal is not None:
        raise refusal


def _refusal(connection: Any, endpoint: Endpoint) -> KeyferryError | None:
    from redis import ResponseError
    from redis.exceptions import RedisError

    try:
        connection.read_response()
    except ResponseError as error:
        return located(classify(error, endpoint.side), endpoint)
    except (RedisError, OSError) as error:
        # Some refusals (READONLY, NOPERM, ...) are classes beside ResponseError; a lost connection is final.
        found = located(classify(error, endpoint.side), endpoint)
        if found.code == "connection":
            raise found from error
        return found
    return None


ITEMS = {
    Side.SOURCE: Item(
        id="source-permissions",
        title="The user may replicate the source",
        why="Without PSYNC and REPLCONF there is no snapshot and no stream.",
        ask=_source,
        needs=frozenset({Side.SOURCE}),
    ),
    Side.TARGET: Item(
        id="target-permissions",
        title="The user may write to the target, and it takes writes",
        why="Any command may come out of the source's stream; one that is refused stops the task.",
        ask=_target,
        needs=frozenset({Side.TARGET}),
    ),
}
