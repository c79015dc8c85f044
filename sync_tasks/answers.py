"""One table from what a server answered, or how a connection broke, to the tree of errors."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from dataclasses import dataclass

from sync_tasks.errors import (
    ConnectionLost,
    ControlError,
    CredentialsRefused,
    KeyferryError,
    Retry,
    Side,
    SourceError,
    SpoolFull,
    TargetBusy,
    TargetError,
)
from sync_tasks.secrets import redact

LONGEST = 200
"""Characters of a server's answer that an error shows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One answer.

    Args:
        kind: "lost", "credentials", "busy" (heals by itself) or "refused" (does not).
        hint: what the user can do, one sentence.
        source_hint: the hint on the source's side, where it differs.
    """

    kind: str
    hint: str
    source_hint: str = ""


NO_PERMISSION = "grant the user of the URL this command and all keys (ACL SETUSER ... +@all ~* is enough)"
CLUSTER = "clusters are not supported yet: name a server that is no cluster's member"

ANSWERS: dict[str, Row] = {
    "NOAUTH": Row("credentials", "give a user and password in the URL, by password_file or by the environment"),
    "WRONGPASS": Row("credentials", "check user and password; write special characters in the URL as %XX"),
    "NOPERM": Row(
        "credentials",
        NO_PERMISSION,
        "grant the user +psync +replconf +sync and the reading commands on all keys",
    ),
    "DENIED": Row("credentials", "protected mode: set a password on the server or allow this host to connect"),
    "LOADING": Row("busy", "it reads its data set from disk: it will answer once done"),
    "BUSY": Row("busy", "a script runs there too long: wait, or end it with SCRIPT KILL"),
    "READONLY": Row("busy", "it is a replica or was demoted: name its master, or make it the master"),
    "MASTERDOWN": Row(
        "busy",
        "a replica without its master: mend its replication",
        "the replica has lost its master and serves no stale data: mend its replication or name the master",
    ),
    "CLUSTERDOWN": Row("busy", "the cluster does not serve all slots: see CLUSTER INFO there"),
    "TRYAGAIN": Row("busy", "a slot is being moved: it will answer once done"),
    "OOM": Row("busy", "memory is at maxmemory: raise it, or free some"),
    "NOREPLICAS": Row("busy", "min-replicas-to-write is not met: bring replicas back or lower it"),
    "MISCONF": Row("busy", "it cannot save to disk and so refuses writes: see its log and free disk space"),
    "NOMASTERLINK": Row(
        "busy", "a replica without its master cannot be followed: mend its replication or name the master"
    ),
    "MAXCLIENTS": Row("lost", "maxclients is reached there: raise it or close connections"),
    "MOVED": Row("refused", CLUSTER),
    "ASK": Row("refused", CLUSTER),
    "CROSSSLOT": Row("refused", CLUSTER),
    "WRONGTYPE": Row("refused", "another writer has changed the key's type: nobody else may write to these keys"),
    "NOSCRIPT": Row("refused", "the script is not known there: load it, or call it by EVAL"),
    "BUSYKEY": Row("refused", "the key exists: empty the target or use ignore-and-proceed"),
    "UNKNOWN": Row("refused", "it is too old, or the command was renamed or disabled there"),
    "EXECABORT": Row("refused", "a command of the transaction was refused: the answer before says why"),
}
"""First word of an error reply (or the name `_wording` finds for it) to what it means."""

WORDING: tuple[tuple[str, str], ...] = (
    ("max number of clients", "MAXCLIENTS"),
    ("max number of connections", "MAXCLIENTS"),
    ("unknown command", "UNKNOWN"),
    ("unknown subcommand", "UNKNOWN"),
    ("invalid password", "WRONGPASS"),
    ("invalid username-password", "WRONGPASS"),
    ("no password is set", "WRONGPASS"),
    ("without any password configured", "WRONGPASS"),
    ("wrong number of arguments for 'auth'", "WRONGPASS"),
    ("authentication required", "NOAUTH"),
    ("operation not permitted", "NOAUTH"),
    ("protected mode", "DENIED"),
)
"""Replies whose first word says only ERR (servers before 6.0 above all)."""

CLASSES = {
    "BusyLoadingError": "LOADING",
    "ReadOnlyError": "READONLY",
    "NoPermissionError": "NOPERM",
    "AuthenticationError": "WRONGPASS",
    "AuthenticationWrongNumberOfArgsError": "WRONGPASS",
    "AuthorizationError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "ClusterCrossSlotError": "CROSSSLOT",
    "NoScriptError": "NOSCRIPT",
    "ExecAbortError": "EXECABORT",
}
"""redis-py's classes, by name so that it need not be imported: it cuts the first word off the reply."""

REFUSED = "check host and port, that the server runs, and that no firewall is between"
SILENT = "check host and port, the network between, and that the server is not stopped"
RESET = "the server closed the connection: see its log, client-output-buffer-limit and timeout"
DNS = "check the spelling of the host and the name server"
TLS = "check that the port speaks TLS, and ca, cert, key and sni in the URL"
NOT_REDIS = "the address answers, but not as a Redis-compatible server: check host, port and TLS (rediss://)"


def classify(given: BaseException | bytes | str, side: Side) -> KeyferryError:
    """The error of our tree for an exception or a raw error reply.

    Args:
        given: an exception of redis-py, an OSError, or a reply such as b"-LOADING ...".
        side: whose answer it is.
    """
    if isinstance(given, KeyferryError):
        return given
    if isinstance(given, bytes | str):
        text = given.decode("utf-8", "replace") if isinstance(given, bytes) else given
        return _reply(text.lstrip("-").strip(), side)
    if isinstance(given, OSError | EOFError):
        return _broken(given, side)
    return _redis(given, side)


def _redis(error: BaseException, side: Side) -> KeyferryError:
    names = [cls.__name__ for cls in type(error).__mro__]
    text = str(error)
    if "RedisError" not in names and "RedisClusterException" not in names:
        return _refusal(side)(_short(f"{type(error).__name__}: {text}"), hint="this is unexpected: please report it")
    for name in names:
        if name in CLASSES:
            code = CLASSES[name]
            if name == "AuthenticationError" and text.startswith("Authentication required"):
                code = "NOAUTH"
            return _from_row(ANSWERS[_wording(text) or code], text if text else code, side)
    if "TimeoutError" in names:
        return ConnectionLost("no answer in time", hint=SILENT, side=side)
    if "InvalidResponse" in names:
        return _refusal(side)("it does not speak the Redis protocol", hint=NOT_REDIS, code="not-redis")
    if "ConnectionError" in names:
        if (worded := _wording(text)) is not None:
            return _from_row(ANSWERS[worded], text, side)
        cause = error.__cause__ or error.__context__
        if isinstance(cause, OSError):
            return _broken(cause, side)
        return ConnectionLost("the connection was closed", hint=RESET, side=side)
    return _reply(text, side)


def _reply(text: str, side: Side) -> KeyferryError:
    first = text.partition(" ")[0]
    code = first if first in ANSWERS else _wording(text)
    if code is None:
        return _refusal(side)(_short(text), hint="the server refuses; its documentation explains the answer")
    return _from_row(ANSWERS[code], text, side)


def _wording(text: str) -> str | None:
    low = text.lower()
    return next((code for part, code in WORDING if part in low), None)


def _from_row(row: Row, text: str, side: Side) -> KeyferryError:
    hint = row.source_hint or row.hint if side is Side.SOURCE else row.hint
    message = _short(text)
    if row.kind == "lost":
        return ConnectionLost(message, hint=hint, side=side)
    if row.kind == "credentials":
        return CredentialsRefused(message, hint=hint, side=side)
    if row.kind == "busy":
        if side is Side.TARGET:
            return TargetBusy(message, hint=hint)
        return _refusal(side)(message, hint=hint, code=f"{side.value}-refuses", retry=Retry.OTHER)
    return _refusal(side)(message, hint=hint)


def _broken(error: OSError | EOFError, side: Side) -> KeyferryError:
    """A socket or file that failed."""
    if isinstance(error, EOFError):
        return ConnectionLost("the connection was closed", hint=RESET, side=side)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpoolFull(
            "no space left on the disk of the state directory", hint="free some: the work goes on by itself"
        )
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or "handshake failed"
        return ConnectionLost(_short(f"TLS: {reason}"), hint=TLS, side=side, code="tls")
    if isinstance(error, socket.gaierror):
        return ConnectionLost("the host name is not known", hint=DNS, side=side, code="dns")
    if isinstance(error, TimeoutError):
        return ConnectionLost("no answer in time", hint=SILENT, side=side)
    if isinstance(error, ConnectionRefusedError):
        return ConnectionLost("connection refused", hint=REFUSED, side=side)
    if isinstance(error, ConnectionError):
        return ConnectionLost("the connection was cut", hint=RESET, side=side)
    reason = error.strerror or type(error).__name__
    if error.filename is not None and side not in (Side.SOURCE, Side.TARGET):
        return ControlError(_short(f"{error.filename}: {reason}"), hint="check the path and its permissions")
    return ConnectionLost(_short(reason.lower()), hint=REFUSED, side=side)


def _refusal(side: Side) -> type[KeyferryError]:
    return {Side.SOURCE: SourceError, Side.TARGET: TargetError}.get(side, ControlError)


def _short(text: str) -> str:
    """One line, bounded, without the user part of any URL, without the arguments that some replies repeat."""
    text = re.sub(r",? ?with args beginning with:.*", "", " ".join(text.split()))
    text = redact(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
