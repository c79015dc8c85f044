"""Item: the users may do what the task will do. Asked without doing it."""

from __future__ import annotations

import contextlib
from typing import Any

from sync_tasks import names
from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import CredentialsRefused, KeyferryError, Side
from sync_tasks.precheck.facts import located

PROBE = names.KEY_PREFIX + b"precheck"
WRITES: tuple[tuple[bytes, ...], ...] = (
    (b"SET", PROBE, b"1"),
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


def check_source(client: Any, endpoint: Endpoint) -> None:
    """Whether the user may follow: by ACL DRYRUN, where the server has it and lets the user ask it.

    Raises:
        CredentialsRefused: it may not.
    """
    from redis import RedisError

    try:
        user = client.execute_command("ACL", "WHOAMI")
        answers = [client.execute_command("ACL", "DRYRUN", user, *command) for command in FOLLOWING]
    except RedisError:
        return  # before 7.0 there is no DRYRUN, and few may call it: then PSYNC itself will tell
    for command, answer in zip(FOLLOWING, answers, strict=True):
        if answer not in (b"OK", "OK", True):
            raise CredentialsRefused(
                f"{endpoint.address()}: the user may not run {command[0].decode()}",
                side=Side.SOURCE,
                hint="grant +psync +replconf and the reading commands on all keys: `keyferry task check` shows how",
            )


def check_target(client: Any, endpoint: Endpoint) -> None:
    """Whether the target takes the writes: permissions, read-only, out of memory, a failed save.

    Raises:
        KeyferryError: it does not, with its own answer.
    """
    connection: Any = client.connection_pool.get_connection()
    try:
        connection.send_command(b"MULTI")
        _raise_refusal(connection, endpoint)
        for command in WRITES:
            connection.send_command(*command)
        refusals = [
            refusal for command in WRITES if (refusal := _refusal(connection, endpoint)) and _matters(command, refusal)
        ]
        connection.send_command(b"DISCARD")
        _refusal(connection, endpoint)
    finally:
        with contextlib.suppress(Exception):
            connection.disconnect()
    if refusals:
        raise refusals[0]


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
