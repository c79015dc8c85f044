"""The URL of a broker, read. No error shows it: what is wrong in it may be its password."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from sync_tasks.errors import UsageError
from sync_tasks.nearest import nearest

FORM = (
    "write redis://[user:password@]host:port[/db], redis+sentinel://[user:password@]host:port,host:port/master,"
    " amqp://user:password@host:port[/vhost], their forms rediss, rediss+sentinel and amqps for TLS,"
    " or redis+socket:///path"
)


class BrokerKind(StrEnum):
    """What a broker is, as people call it."""

    REDIS = "Redis"
    SOCKET = "Redis, on a socket of this machine"
    SENTINEL = "Redis, by Sentinels"
    RABBITMQ = "RabbitMQ"


SCHEMES = {
    "redis": BrokerKind.REDIS, "rediss": BrokerKind.REDIS, "redis+socket": BrokerKind.SOCKET,
    "redis+sentinel": BrokerKind.SENTINEL, "rediss+sentinel": BrokerKind.SENTINEL, "sentinel": BrokerKind.SENTINEL,
    "amqp": BrokerKind.RABBITMQ, "amqps": BrokerKind.RABBITMQ,
}  # fmt: skip
TLS = ("rediss", "rediss+sentinel", "amqps")
PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}
SENTINEL_PORT = 26379
FILES = {
    "ca": "ca", "cert": "cert", "key": "key",
    "ssl_ca_certs": "ca", "ssl_certfile": "cert", "ssl_keyfile": "key",
}  # fmt: skip
"""What a query may name, as URLs of sources and targets do and as redis-py and Kombu do."""
VERIFYING = {"ssl_cert_reqs": ("required", "CERT_REQUIRED"), "ssl_check_hostname": ("true", "True")}
"""May be said, since it is so anyway."""
OF_SENTINELS = ("db", "master_name", "sentinel_username", "sentinel_password_file")


@dataclass(frozen=True, slots=True)
class Broker:
    """Where messages go, and how it is reached.

    Args:
        url: as it was given.
        nodes: host and port of each; of Sentinels, not of the servers that they watch.
        path: of a socket.
        master: as Sentinels call it.
        vhost: of RabbitMQ.
        ca, cert, key: absolute paths of PEM files.
    """

    kind: BrokerKind
    url: str = field(repr=False)
    nodes: tuple[tuple[str, int], ...] = ()
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    path: str | None = None
    master: str | None = None
    vhost: str = "/"
    sentinel_username: str | None = None
    sentinel_password_file: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @property
    def title(self) -> str:
        """What it is and where, without secrets."""
        if self.path is not None:
            return f"{self.kind} ({self.path})"
        where = ", ".join(f"{_bracketed(host)}:{port}" for host, port in self.nodes)
        behind = f", master {self.master}" if self.master else ""
        return f"{self.kind} at {where}{behind}{' over TLS' if self.tls else ''}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def address(host: str, port: int) -> str:
    """host:port as it stands in a URL."""
    return f"{_bracketed(host)}:{port}"


def read(url: str) -> Broker:
    """What a URL says. Reads no file.

    Raises:
        UsageError: it is none of a broker, lacks something, or would have certificates not verified.
    """
    scheme, mark, _ = url.partition("://")
    if not mark or scheme not in SCHEMES:
        raise _wrong(f"it must begin with {'://, '.join(SCHEMES)}://")
    kind = SCHEMES[scheme]
    if kind is BrokerKind.SOCKET:
        return _socket(url)
    parts = _split(url, scheme)
    query = _query(parts, kind, scheme in TLS)
    username, password = _user(parts, kind)
    given: dict[str, Any] = {"tls": scheme in TLS, "username": username, "password": password, **_files(query)}
    place = unquote(parts.path.strip("/"))
    if kind is BrokerKind.SENTINEL:
        return Broker(kind, url, _nodes(parts, SENTINEL_PORT), **given, **_sentinel(place, query))
    nodes = _nodes(parts, PORTS[scheme])
    if kind is BrokerKind.RABBITMQ:
        return Broker(kind, url, nodes, vhost=place or "/", **given)
    if len(nodes) > 1:
        raise _wrong("it names several servers", "several are named by RabbitMQ and by Sentinels alone: " + FORM)
    return Broker(kind, url, nodes, db=_db(place or "0"), **given)


def _wrong(what: str, hint: str = FORM) -> UsageError:
    return UsageError(what, hint=hint, code="broker-url")


def _split(url: str, scheme: str) -> SplitResult:
    """The parts of one URL. Celery parts several by semicolons: their addresses are joined; the first one's user counts
    as does the last one's path."""
    each = url.split(";")
    if any(one.partition("://")[0] != scheme for one in each):
        hint = "each of several addresses begins as the first one does; write ; in a password as %3B"
        raise _wrong("its parts begin differently", hint)
    try:
        parts = [urlsplit(one) for one in each]
    except ValueError:
        raise _wrong("it cannot be read", "an IPv6 address stands in [ ]") from None
    if any(part.fragment for part in parts):
        raise _wrong("it holds a bare #", "write # as %23 in a password")
    if any(part.path.strip("/") or part.query for part in parts[:-1]):
        raise _wrong("something stands behind an address in its midst", "what holds for all stands behind the last one")
    info, at, _ = parts[0].netloc.rpartition("@")
    places = ",".join(part.netloc.rpartition("@")[2] for part in parts)
    return parts[-1]._replace(netloc=f"{info}{at}{places}")


def _query(parts: SplitResult, kind: BrokerKind, tls: bool) -> dict[str, str]:
    known = [*(OF_SENTINELS if kind is BrokerKind.SENTINEL else ()), *((*FILES, *VERIFYING) if tls else ())]
    query: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in VERIFYING and value not in VERIFYING[name]:
            raise _wrong(f"{name} would have certificates not verified", "name who signed them: ?ca=FILE")
        if name in (*FILES, *VERIFYING) and not tls:
            raise _wrong(f"{name} is for TLS alone", "use rediss://, rediss+sentinel:// or amqps://")
        if name not in known:
            hint = nearest(name, known) if known else "nothing stands there without TLS"
            raise _wrong("unknown setting behind the question mark", f"{hint}; write ? as %3F in a password")
        if not value:
            raise _wrong(f"{name} is empty", f"give {name} a value or leave it out")
        query[name] = value
    return query


def _files(query: dict[str, str]) -> dict[str, str]:
    found = {FILES[name]: str(Path(value).absolute()) for name, value in query.items() if name in FILES}
    if "key" in found and "cert" not in found:
        raise _wrong("key without cert", "give the client certificate too: ?cert=FILE&key=FILE")
    return found


def _user(parts: SplitResult, kind: BrokerKind) -> tuple[str | None, str | None]:
    """User and password. A Redis may have a password alone, `redis://:password@host`; RabbitMQ has both or none."""
    info, at, _ = parts.netloc.rpartition("@")
    if not at:
        return None, None
    first, _, second = info.partition(":")
    username, password = unquote(first) or None, unquote(second) or None
    if kind is BrokerKind.RABBITMQ and (username is None) != (password is None):
        raise _wrong("it has a user or a password alone", "write amqp://user:password@host:port/vhost")
    if password is None and username is not None:
        raise _wrong("it has a user without a password", "write user:password@, or :password@ without a user")
    return username, password


def _nodes(parts: SplitResult, default: int) -> tuple[tuple[str, int], ...]:
    found = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"any://{text}")
            port = one.port if one.port is not None else default
        except ValueError:
            port = 0
        if not 1 <= port <= 65535:
            # The text is not shown: with an unescaped / in it, it is a piece of the password.
            raise _wrong("the port is not a number in 1..65535", "write / ? # @ in a password as %2F %3F %23 %40")
        if not one.hostname:
            raise _wrong("it has no host")
        found.append((unquote(one.hostname), port))
    return tuple(dict.fromkeys(found))


def _db(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise _wrong("the database is not a number", "write /N with N in 0..15; / in a password as %2F")
    return int(text)


def _sentinel(place: str, query: dict[str, str]) -> dict[str, Any]:
    """The master's name is the path, or `master_name` as Celery calls it: then the path is the database."""
    named = query.get("master_name")
    master, db = (named, place or query.get("db", "0")) if named else (place, query.get("db", "0"))
    if not master or not re.fullmatch(r"[A-Za-z0-9._-]+", master):
        raise _wrong("it names no master", "write redis+sentinel://host:port,host:port/master-name")
    return {
        "master": master,
        "db": _db(db),
        "sentinel_username": query.get("sentinel_username"),
        "sentinel_password_file": _absolute(query.get("sentinel_password_file")),
    }


def _absolute(path: str | None) -> str | None:
    return str(Path(path).absolute()) if path else None


def _socket(url: str) -> Broker:
    """Kombu reads this one itself: a path need not be escaped, and `?virtual_host=N` is its database."""
    place, _, query = url.partition("://")[2].partition("?")
    info, at, path = place.rpartition("@") if "@" in place.partition("/")[0] else ("", "", place)
    if not path.startswith("/") or len(path) < 2:
        raise _wrong("it needs the absolute path of a socket", "write redis+socket:///path/to/socket")
    if query and not re.fullmatch(r"virtual_host=\d{1,5}", query):
        raise _wrong("unknown setting behind the question mark", "known is virtual_host=N, the database")
    username, _, password = info.partition(":") if at else ("", "", "")
    return Broker(
        BrokerKind.SOCKET, url, path=path, username=unquote(username) or None, password=unquote(password) or None,
        db=int(query.partition("=")[2] or 0),
    )  # fmt: skip
