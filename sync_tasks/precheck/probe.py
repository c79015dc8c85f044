"""What listens at an address that did not answer as a Redis does: worth a better word than "closed"."""

from __future__ import annotations

import socket

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, KeyferryError, Side, SourceError, TargetError

TIMEOUT_S = 2.0
REPLIES = b"+-$*:"  # first bytes of a Redis reply
TLS_ALERT = b"\x15\x03"  # record type and version, what a TLS server says to plain text


def diagnose(error: KeyferryError, endpoint: Endpoint) -> KeyferryError:
    """`error`, or what a plain PING on the same address shows to be the cause of it."""
    clear = endpoint.scheme.replace("rediss", "redis")
    if endpoint.nodes:
        endpoint = endpoint.at(*endpoint.nodes[0])  # one scheme holds for all of them
    if endpoint.path or error.code not in (ConnectionLost.code, "tls"):
        return error
    said = first_words(endpoint)
    place = endpoint.address()
    if endpoint.tls and said[:1] in REPLIES and said:
        what = f"{place}: TLS was asked for, but it speaks plain Redis"
        return _refusal(endpoint.side, what, f"write {clear}://", "tls")
    if not endpoint.tls and said.startswith(TLS_ALERT):
        return _refusal(endpoint.side, f"{place}: it speaks TLS", f"write {clear.replace('redis', 'rediss')}://", "tls")
    if said and said[:1] not in REPLIES and not said.startswith(TLS_ALERT):
        return not_redis(endpoint)
    return error


def not_redis(endpoint: Endpoint) -> KeyferryError:
    """Something else listens there."""
    return _refusal(
        endpoint.side,
        f"{endpoint.address()}: it answers, but not as a Redis-compatible server",
        "check host, port and scheme (rediss:// for TLS)",
        "not-redis",
    )


def first_words(endpoint: Endpoint) -> bytes:
    """The first bytes it sends after a PING in plain text; empty if there are none."""
    try:
        with socket.create_connection((endpoint.host, endpoint.port), TIMEOUT_S) as plain:
            plain.settimeout(TIMEOUT_S)
            plain.sendall(b"PING\r\n")
            return plain.recv(64)
    except OSError:
        return b""


def _refusal(side: Side, message: str, hint: str, code: str) -> KeyferryError:
    kind = SourceError if side is Side.SOURCE else TargetError
    return kind(message, hint=hint, code=code)
