"""From what a server answered, or how a connection broke, to its row in `error_table` and the tree of errors."""

from __future__ import annotations

import errno
import re
import socket
import ssl

from sync_tasks.error_table import ANSWERS, ANYTHING_ELSE, CONNECTIONS, Kind, Row
from sync_tasks.errors import (
    ConnectionLost,
    ControlError,
    CredentialsRefused,
    KeyferryError,
    Side,
    SourceError,
    SpoolFull,
    TargetBusy,
    TargetError,
)
from sync_tasks.secrets import redact

FILE = "check the path and its permissions"
FULL = (errno.ENOSPC, errno.EDQUOT)

LONGEST = 200
"""Characters of a server's answer that an error shows."""


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
    ("dump payload version or checksum", "PAYLOAD"),
    ("bad data format", "PAYLOAD"),
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
        return _from_row(CONNECTIONS["timeout"], "", side)
    if "InvalidResponse" in names:
        return _from_row(CONNECTIONS["not-redis"], "", side)
    if "ConnectionError" in names:
        if (worded := _wording(text)) is not None:
            return _from_row(ANSWERS[worded], text, side)
        cause = error.__cause__ or error.__context__
        if isinstance(cause, OSError):
            return _broken(cause, side)
        return _from_row(CONNECTIONS["closed"], "", side)
    return _reply(text, side)


CAUSE = "EXECABORT Transaction discarded because of: "
"""What EXEC itself was refused for: out of memory since the last command was queued, say."""


def _reply(text: str, side: Side) -> KeyferryError:
    text = text.removeprefix(CAUSE)
    first = text.partition(" ")[0]
    code = first if first in ANSWERS else _wording(text)
    return _from_row(ANYTHING_ELSE if code is None else ANSWERS[code], text, side)


def _wording(text: str) -> str | None:
    low = text.lower()
    return next((code for part, code in WORDING if part in low), None)


def _from_row(row: Row, text: str, side: Side) -> KeyferryError:
    """The error of a row; `text` is what the server said, where the row has no words of its own."""
    hint = row.source_hint or row.hint if side is Side.SOURCE else row.hint
    message, code = row.message or _short(text), row.code or None
    if row.kind is Kind.DISK:
        return SpoolFull(message, hint=hint)
    if row.kind is Kind.LOST:
        return ConnectionLost(message, hint=hint, side=side, code=code)
    if row.kind is Kind.CREDENTIALS:
        return CredentialsRefused(message, hint=hint, side=side)
    if row.kind is Kind.BUSY and side is Side.TARGET:
        return TargetBusy(message, hint=hint)
    if row.kind is Kind.BUSY:
        code = f"{side.value}-refuses"
    return _refusal(side)(message, hint=hint, code=code, retry=row.retry)


def _broken(error: OSError | EOFError, side: Side) -> KeyferryError:
    """A socket or file that failed."""
    name, said = _cause(error)
    if name == "unreachable" and getattr(error, "filename", None) and side not in (Side.SOURCE, Side.TARGET):
        reason = getattr(error, "strerror", None) or type(error).__name__
        return ControlError(_short(f"{getattr(error, 'filename', '')}: {reason}"), hint=FILE)
    return _from_row(CONNECTIONS[name], said, side)


def _cause(error: OSError | EOFError) -> tuple[str, str]:
    """The row's name, and what there is to say if that has no words of its own."""
    if isinstance(error, EOFError):
        return "closed", ""
    if error.errno in FULL:
        return "disk", ""
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or "handshake failed"
        return "tls", f"TLS: {reason}"
    kinds = {
        socket.gaierror: "dns",
        TimeoutError: "timeout",
        ConnectionRefusedError: "refused",
        ConnectionError: "reset",
    }
    known = next((name for kind, name in kinds.items() if isinstance(error, kind)), "unreachable")
    return known, (error.strerror or type(error).__name__).lower()


def _refusal(side: Side) -> type[KeyferryError]:
    return {Side.SOURCE: SourceError, Side.TARGET: TargetError}.get(side, ControlError)


def _short(text: str) -> str:
    """One line, bounded, without the user part of any URL, without the arguments that some replies repeat."""
    text = re.sub(r",? ?with args beginning with:.*", "", " ".join(text.split()))
    text = redact(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
