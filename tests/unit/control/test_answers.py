"""One test a row: what servers and sockets say, and what becomes of it."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest
import redis
from redis._parsers.base import BaseParser

from sync_tasks.answers import classify
from sync_tasks.error_table import ANSWERS, CONNECTIONS
from sync_tasks.errors import (
    ConnectionLost,
    ControlError,
    CredentialsRefused,
    Fenced,
    KeyferryError,
    Malformed,
    Retry,
    Side,
    SourceError,
    SpoolFull,
    TargetBusy,
    TargetError,
    UnsupportedType,
    UsageError,
)
from sync_tasks.retry_policy import is_final_at_once

CREDENTIALS = (
    b"-NOAUTH Authentication required.",
    b"-WRONGPASS invalid username-password pair or user is disabled.",
    b"-ERR invalid password",
    b"-ERR operation not permitted",
    b"-ERR Client sent AUTH, but no password is set",
    b"-ERR AUTH <password> called without any password configured for the default user. Are you sure"
    b" your configuration is correct?",
    b"-ERR wrong number of arguments for 'auth' command",
    b"-NOPERM this user has no permissions to run the 'psync' command",
    b"-DENIED Redis is running in protected mode",
)
BUSY = (
    b"-LOADING Redis is loading the dataset in memory",
    b"-BUSY Redis is busy running a script.",
    b"-READONLY You can't write against a read only replica.",
    b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    b"-NOMASTERLINK Can't SYNC while not connected with my master",
    b"-CLUSTERDOWN The cluster is down",
    b"-TRYAGAIN Multiple keys request during rehashing of slot",
    b"-OOM command not allowed when used memory > 'maxmemory'.",
    b"-NOREPLICAS Not enough good replicas to write.",
    b"-MISCONF Redis is configured to save RDB snapshots",
    b"-MOVED 3999 127.0.0.1:6381",
    b"-ASK 3999 127.0.0.1:6381",
)
LOST = (b"-ERR max number of clients reached",)
REFUSED = (
    b"-CROSSSLOT Keys in request don't hash to the same slot",
    b"-WRONGTYPE Operation against a key holding the wrong kind of value",
    b"-NOSCRIPT No matching script.",
    b"-BUSYKEY Target key name already exists.",
    b"-ERR unknown command 'PSYNC', with args beginning with: '?' '-1'",
    b"-ERR DUMP payload version or checksum are wrong",
    b"-ERR Bad data format",
    b"-EXECABORT Transaction discarded because of previous errors.",
    b"-WHATEVER comes next",
)

REPLIES: list[tuple[bytes, type[KeyferryError], type[KeyferryError], Retry]] = [
    *((reply, CredentialsRefused, CredentialsRefused, Retry.OTHER) for reply in CREDENTIALS),
    *((reply, TargetBusy, SourceError, Retry.OTHER) for reply in BUSY),
    *((reply, ConnectionLost, ConnectionLost, Retry.CONNECTION) for reply in LOST),
    *((reply, TargetError, SourceError, Retry.FATAL) for reply in REFUSED),
]


@pytest.mark.parametrize(("reply", "on_target", "on_source", "retry"), REPLIES, ids=[row[0][1:30] for row in REPLIES])
@pytest.mark.parametrize("side", [Side.SOURCE, Side.TARGET])
@pytest.mark.parametrize("form", ["bytes", "redis-py"])
def test_replies(
    reply: bytes,
    on_target: type[KeyferryError],
    on_source: type[KeyferryError],
    retry: Retry,
    side: Side,
    form: str,
) -> None:
    given = reply if form == "bytes" else BaseParser.parse_error(reply[1:].decode())
    found = classify(given, side)
    assert type(found) is (on_target if side is Side.TARGET else on_source)
    assert (found.side, found.retry) == (side, retry)
    assert found.message
    assert found.hint


CUT, LATER, NEVER = Retry.CONNECTION, Retry.OTHER, Retry.FATAL
ROWS: dict[str, tuple[bytes | BaseException, Retry, str, str, Side | None]] = {
    # row: what is given, its window, its code on the target and on the source, whose it is if not who was asked
    "refused": (
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        CUT,
        "connection",
        "connection",
        None,
    ),
    "reset": (ConnectionResetError(errno.ECONNRESET, "reset by peer"), CUT, "connection", "connection", None),
    "closed": (EOFError(), CUT, "connection", "connection", None),
    "timeout": (TimeoutError("timed out"), CUT, "connection", "connection", None),
    "dns": (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), CUT, "dns", "dns", None),
    "tls": (ssl.SSLCertVerificationError(1, "certificate verify failed"), CUT, "tls", "tls", None),
    "unreachable": (OSError(errno.EHOSTUNREACH, "No route to host"), CUT, "connection", "connection", None),
    "not-redis": (redis.InvalidResponse("Protocol Error: b'HTTP/1.1 400'"), NEVER, "not-redis", "not-redis", None),
    "disk": (OSError(errno.ENOSPC, "No space left on device"), LATER, "disk-full", "disk-full", Side.CONTROL),
    "NOAUTH": (b"-NOAUTH Authentication required.", LATER, "credentials", "credentials", None),
    "WRONGPASS": (b"-WRONGPASS invalid username-password pair", LATER, "credentials", "credentials", None),
    "NOPERM": (b"-NOPERM this user has no permissions", LATER, "credentials", "credentials", None),
    "DENIED": (b"-DENIED Redis is running in protected mode", LATER, "credentials", "credentials", None),
    "LOADING": (b"-LOADING Redis is loading the dataset in memory", LATER, "target-refuses", "source-refuses", None),
    "BUSY": (b"-BUSY Redis is busy running a script.", LATER, "target-refuses", "source-refuses", None),
    "READONLY": (b"-READONLY You can't write against a replica.", LATER, "target-refuses", "source-refuses", None),
    "MASTERDOWN": (b"-MASTERDOWN Link with MASTER is down", LATER, "target-refuses", "source-refuses", None),
    "CLUSTERDOWN": (b"-CLUSTERDOWN The cluster is down", LATER, "target-refuses", "source-refuses", None),
    "TRYAGAIN": (b"-TRYAGAIN Multiple keys request", LATER, "target-refuses", "source-refuses", None),
    "OOM": (b"-OOM command not allowed when used memory", LATER, "target-refuses", "source-refuses", None),
    "NOREPLICAS": (b"-NOREPLICAS Not enough good replicas", LATER, "target-refuses", "source-refuses", None),
    "MISCONF": (b"-MISCONF Redis is configured to save", LATER, "target-refuses", "source-refuses", None),
    "NOMASTERLINK": (b"-NOMASTERLINK Can't SYNC", LATER, "target-refuses", "source-refuses", None),
    "MAXCLIENTS": (b"-ERR max number of clients reached", CUT, "connection", "connection", None),
    "MOVED": (b"-MOVED 3999 127.0.0.1:6381", LATER, "target-refuses", "source-refuses", None),
    "ASK": (b"-ASK 3999 127.0.0.1:6381", LATER, "target-refuses", "source-refuses", None),
    "CROSSSLOT": (b"-CROSSSLOT Keys in request don't hash", NEVER, "target", "source", None),
    "WRONGTYPE": (b"-WRONGTYPE Operation against a key", NEVER, "target", "source", None),
    "NOSCRIPT": (b"-NOSCRIPT No matching script.", NEVER, "target", "source", None),
    "BUSYKEY": (b"-BUSYKEY Target key name already exists.", NEVER, "target", "source", None),
    "UNKNOWN": (b"-ERR unknown command 'PSYNC'", NEVER, "target", "source", None),
    "PAYLOAD": (b"-ERR Bad data format", NEVER, "refused-value", "refused-value", None),
    "EXECABORT": (b"-EXECABORT Transaction discarded", NEVER, "target", "source", None),
}


@pytest.mark.parametrize("cause", [b"OOM command not allowed", b"NOREPLICAS Not enough", b"READONLY You can't"])
def test_what_exec_was_refused_for_counts(cause: bytes) -> None:
    found = classify(b"-EXECABORT Transaction discarded because of: " + cause, Side.TARGET)
    alone = classify(b"-" + cause, Side.TARGET)
    assert (type(found), found.retry, found.message) == (type(alone), alone.retry, alone.message)
    assert found.retry is Retry.OTHER


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("side", [Side.SOURCE, Side.TARGET])
def test_a_row_of_the_table(name: str, side: Side) -> None:
    given, retry, on_target, on_source, whose = ROWS[name]
    row = {**CONNECTIONS, **ANSWERS}[name]
    found = classify(given, side)
    assert (found.retry, found.side) == (retry, whose or side)
    assert found.retry is row.retry, "the table in the docs says so"
    assert found.code == (on_source if side is Side.SOURCE else on_target)
    assert found.hint == (row.source_hint or row.hint if side is Side.SOURCE else row.hint)
    assert found.message


def test_every_row_of_the_table_is_tested() -> None:
    assert set(ROWS) == {*CONNECTIONS, *ANSWERS}


@pytest.mark.parametrize(
    "error",
    [
        UsageError("source and target are the same server", code="same-server"),
        UnsupportedType("type 99", 7),
        Malformed("a length of -3", 7),
    ],
)
def test_what_no_time_heals_is_final_always(error: KeyferryError) -> None:
    assert error.retry is Retry.FATAL
    assert is_final_at_once(error)


def test_credentials_are_final_for_who_starts_and_not_for_what_runs() -> None:
    error = classify(b"-WRONGPASS invalid username-password pair", Side.TARGET)
    assert is_final_at_once(error)
    assert error.retry is Retry.OTHER
    assert not is_final_at_once(TargetBusy("LOADING"))
    assert not is_final_at_once(ConnectionLost("refused", side=Side.TARGET))


def test_the_source_has_hints_of_its_own() -> None:
    reply = b"-MASTERDOWN Link with MASTER is down"
    assert "replica has lost its master" in classify(reply, Side.SOURCE).hint
    assert "+psync" in classify(b"-NOPERM this user", Side.SOURCE).hint
    assert classify(b"-NOPERM this user", Side.SOURCE).hint != classify(b"-NOPERM this user", Side.TARGET).hint


SOCKETS: list[tuple[BaseException, type[KeyferryError], str]] = [
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), ConnectionLost, "refused"),
    (ConnectionResetError(errno.ECONNRESET, "reset"), ConnectionLost, "cut"),
    (BrokenPipeError(errno.EPIPE, "pipe"), ConnectionLost, "cut"),
    (TimeoutError("timed out"), ConnectionLost, "no answer in time"),
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), ConnectionLost, "host name"),
    (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), ConnectionLost, "TLS"),
    (OSError(errno.EHOSTUNREACH, "No route to host"), ConnectionLost, "no route to host"),
    (EOFError(), ConnectionLost, "closed"),
    (OSError(errno.ENOSPC, "No space left on device"), SpoolFull, "no space"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), SpoolFull, "no space"),
    (redis.ConnectionError("Connection closed by server."), ConnectionLost, "closed"),
    (redis.TimeoutError("Timeout reading from socket"), ConnectionLost, "no answer in time"),
    (redis.ConnectionError("max number of clients reached"), ConnectionLost, "max number"),
    (redis.InvalidResponse("Protocol Error: b'HTTP/1.1 400'"), TargetError, "Redis protocol"),
]


@pytest.mark.parametrize(("error", "kind", "says"), SOCKETS, ids=[repr(row[0])[:40] for row in SOCKETS])
def test_broken_connections(error: BaseException, kind: type[KeyferryError], says: str) -> None:
    found = classify(error, Side.TARGET)
    assert type(found) is kind
    assert says in found.message
    assert found.hint
    if kind is ConnectionLost:
        assert (found.side, found.retry) == (Side.TARGET, Retry.CONNECTION)


def test_redis_py_hides_the_cause_behind_its_own_exception() -> None:
    with pytest.raises(redis.ConnectionError) as caught:
        redis.Redis(host="no-such-host.invalid", retry=None).ping()
    assert classify(caught.value, Side.SOURCE).code == "dns"


def test_a_file_of_ours_is_a_matter_of_control() -> None:
    found = classify(PermissionError(errno.EACCES, "Permission denied", "spool/x"), Side.CONTROL)
    assert type(found) is ControlError
    assert found.message == "spool/x: Permission denied"


def test_our_own_errors_pass() -> None:
    error = Fenced("x")
    assert classify(error, Side.TARGET) is error


def test_answers_are_cut_to_a_line_without_arguments_or_credentials() -> None:
    found = classify(b"-ERR unknown command 'AUTH', with args beginning with: 'hush'", Side.TARGET)
    assert "hush" not in found.line()
    found = classify("ERR cannot reach redis://u:hush@h:1\r\n" + "x" * 1000, Side.TARGET)
    assert "hush" not in found.line()
    assert "\n" not in found.line()
    assert len(found.message) <= 200


def test_a_foreign_exception_is_still_an_error_of_ours() -> None:
    found = classify(ValueError("odd"), Side.SOURCE)
    assert type(found) is SourceError
    assert found.message == "ValueError: odd"
