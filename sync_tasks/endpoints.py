"""Addresses of users' servers: parsing, showing without secrets, connecting."""

from __future__ import annotations

import difflib
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from sync_tasks.answers import classify
from sync_tasks.errors import Side, UsageError

if TYPE_CHECKING:
    from redis import Redis

DEFAULT_PORT = 6379
CONNECT_TIMEOUT_S = 5.0
SOCKET_TIMEOUT_S = 10.0
SCHEMES = ("redis", "rediss", "unix")
LATER = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
TLS_KEYS = ("ca", "cert", "key", "sni")
FORM = "write redis://[user:password@]host:port[/db], rediss://... or unix:///path"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server. `password` is never shown; `db` is None when the URL names none.

    `password_file` is read at each use, so a rotated password is picked up.
    """

    side: Side
    scheme: str
    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""  # of the unix socket
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int | None = None
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    sni: str | None = None
    password_file: str | None = None

    @classmethod
    def parse(cls, url: str, side: Side, password: str | None = None) -> Endpoint:
        """An endpoint of a URL. No error shows the URL: what is wrong in it may be its password.

        Args:
            url: as in SPEC 1. `user:password@` is an ACL user (or a cloud's account); `:password@` and
                `password@` are a password alone.
            side: SOURCE or TARGET, named in errors.
            password: used if the URL names neither a password nor a file (KEYFERRY_SOURCE_PASSWORD, ...).

        Raises:
            UsageError: not such a URL.
        """
        parts = _split(url, side)
        query = _query(parts, side)
        username, secret = _userinfo(parts, password is not None or "password_file" in query)
        where = _unix(parts, query, side) if parts.scheme == "unix" else _tcp(parts, side)
        file = query.pop("password_file", None)
        _check_files(query, file, side)
        return cls(
            side=side,
            scheme=parts.scheme,
            username=username,
            password=secret if secret is not None else (None if file else password),
            tls=parts.scheme == "rediss",
            password_file=_absolute(file),
            ca=_absolute(query.get("ca")),
            cert=_absolute(query.get("cert")),
            key=_absolute(query.get("key")),
            sni=query.get("sni"),
            **where,
        )

    def __str__(self) -> str:
        return self.safe()

    def url(self) -> str:
        """The full URL, secrets included; `parse` of it gives an equal endpoint."""
        return self._format(quote(self.password, safe="") if self.password is not None else None)

    def safe(self) -> str:
        """The URL for showing: no password in it."""
        return self._format("***" if self.password is not None else None)

    def address(self) -> str:
        """host:port or the socket's path: what two tasks share when they share a server."""
        return self.path or f"{_bracketed(self.host)}:{self.port}"

    def secret(self) -> str | None:
        """The password, from the URL or read from its file. Raises UsageError if the file cannot be read."""
        if self.password is not None or not self.password_file:
            return self.password
        return _read_password(self.password_file, self.side)

    def auth_commands(self) -> list[tuple[bytes, ...]]:
        """What to say first on a raw connection: AUTH, or nothing."""
        secret = self.secret()
        if secret is None:
            return []
        user = (self.username.encode(),) if self.username else ()
        return [(b"AUTH", *user, secret.encode())]

    def connection_kwargs(self) -> dict[str, Any]:
        """Arguments of `redis.Redis`: address, credentials, TLS; RESP2, since old servers know no HELLO."""
        kwargs: dict[str, Any] = {
            "db": self.db or 0,
            "username": self.username,
            "password": self.secret(),
            "protocol": 2,
        }
        if self.path:
            return {**kwargs, "unix_socket_path": self.path}
        kwargs |= {"host": self.host, "port": self.port}
        if self.tls:
            kwargs |= {
                "ssl": True,
                "ssl_cert_reqs": "required",
                "ssl_check_hostname": True,
                "ssl_ca_certs": self.ca,
                "ssl_certfile": self.cert,
                "ssl_keyfile": self.key,
            }
        return kwargs

    def connect(self, **kw: Any) -> Redis:
        """A client that neither decodes nor retries by itself: a command sent twice may count twice."""
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        kwargs: dict[str, Any] = {
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "decode_responses": False,
            "retry": Retry(NoBackoff(), 0),
        }
        client: Redis = Redis(**(self.connection_kwargs() | kwargs | kw))
        if self.tls and self.sni:
            from sync_tasks.sni import SniConnection

            client.connection_pool.connection_class = SniConnection
            client.connection_pool.connection_kwargs["server_name"] = self.sni
        return client

    def open_socket(self, timeout: float = CONNECT_TIMEOUT_S) -> socket.socket:
        """A connected (and TLS-verified) blocking socket, not yet authenticated.

        Args:
            timeout: seconds for connect and handshake; stays set on the socket.

        Raises:
            KeyferryError: as `answers.classify` says.
        """
        try:
            return self._open(timeout)
        except OSError as error:
            raise classify(error, self.side) from error

    def tls_context(self) -> ssl.SSLContext:
        """Verifies the server against `ca`, or the system's authorities."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert:
            context.load_cert_chain(self.cert, self.key)
        return context

    def _open(self, timeout: float) -> socket.socket:
        if self.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(timeout)
                sock.connect(self.path)
            except BaseException:
                sock.close()
                raise
            return sock
        sock = socket.create_connection((self.host, self.port), timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if not self.tls:
                return sock
            return self.tls_context().wrap_socket(sock, server_hostname=self.sni or self.host)
        except BaseException:
            sock.close()
            raise

    def _format(self, password: str | None) -> str:
        user = quote(self.username, safe="") if self.username else ""
        info = f"{user}:{password}@" if password is not None else f"{user}@" if user else ""
        names = ("ca", "cert", "key", "sni", "password_file")
        query = {name: value for name in names if (value := getattr(self, name))}
        if self.path:
            place = quote(self.path)
            query |= {"db": str(self.db)} if self.db is not None else {}
        else:
            place = f"{_bracketed(self.host)}:{self.port}" + (f"/{self.db}" if self.db is not None else "")
        return f"{self.scheme}://{info}{place}" + (f"?{urlencode(query)}" if query else "")


def _wrong(side: Side, what: str, hint: str = FORM, code: str = "url") -> UsageError:
    return UsageError(f"{side.value} URL: {what}", hint=hint, code=code)


def _split(url: str, side: Side) -> SplitResult:
    scheme, mark, _ = url.partition("://")
    if not mark:
        raise _wrong(side, "it has no scheme")
    if scheme in LATER:
        raise _wrong(
            side,
            f"{scheme} is not supported yet",
            "name one server with redis:// or rediss://",
            "not-supported",
        )
    if scheme not in SCHEMES:
        near = difflib.get_close_matches(scheme, SCHEMES, n=1)
        hint = f"did you mean {near[0]}://?" if near else FORM
        raise _wrong(side, f"unknown scheme {scheme[:20]!r}", hint)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _wrong(side, "it cannot be read", "an IPv6 address stands in [ ]") from None
    if parts.fragment:
        raise _wrong(side, "it holds a bare #", "write # as %23 in a password")
    return parts


def _query(parts: SplitResult, side: Side) -> dict[str, str]:
    """The query's settings; unknown and misplaced ones are refused."""
    known = [
        "password_file",
        *(TLS_KEYS if parts.scheme == "rediss" else ()),
        *(("db",) if parts.scheme == "unix" else ()),
    ]
    query: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in TLS_KEYS and name not in known:
            raise _wrong(side, f"{name} is for TLS alone", "use rediss://")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise _wrong(
                side,
                "unknown setting behind the question mark",
                f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}; write ? as %3F in a password",
            )
        if not value:
            raise _wrong(side, f"{name} is empty", f"give {name} a value or leave it out")
        query[name] = value
    return query


def _userinfo(parts: SplitResult, has_password: bool) -> tuple[str | None, str | None]:
    """User and password. A lone word is a password, unless one is given elsewhere: then it is the user."""
    info, at, _ = parts.netloc.rpartition("@")
    if not at:
        return None, None
    first, colon, second = info.partition(":")
    if colon:
        return unquote(first) or None, unquote(second) or None
    return (unquote(first), None) if has_password else (None, unquote(first) or None)


def _tcp(parts: SplitResult, side: Side) -> dict[str, Any]:
    try:
        port = parts.port if parts.port is not None else DEFAULT_PORT
    except ValueError:
        port = 0
    if not 1 <= port <= 65535:
        # The text is not shown: with an unescaped / in it, it is a piece of the password.
        raise _wrong(
            side,
            "the port is not a number in 1..65535",
            "write host:port, and / ? # @ in a password as %2F %3F %23 %40",
        )
    if not parts.hostname:
        raise _wrong(side, "it has no host")
    text = parts.path.strip("/")
    return {"host": unquote(parts.hostname), "port": port, "db": _db(text, side) if text else None}


def _unix(parts: SplitResult, query: dict[str, str], side: Side) -> dict[str, Any]:
    place = parts.netloc.rpartition("@")[2]
    if place or len(parts.path) < 2:
        raise _wrong(side, "unix needs the absolute path of a socket", "write unix:///path/to/socket?db=N")
    return {"path": unquote(parts.path), "db": _db(query.pop("db"), side) if "db" in query else None}


def _db(text: str, side: Side) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise _wrong(side, "the database is not a number", "write /N with N in 0..255; / in a password as %2F")
    return int(text)


def _check_files(query: dict[str, str], password_file: str | None, side: Side) -> None:
    if "key" in query and "cert" not in query:
        raise _wrong(side, "key without cert", "give the client certificate too: ?cert=FILE&key=FILE")
    for name in ("ca", "cert", "key"):
        if name in query and not Path(query[name]).is_file():
            raise _wrong(side, f"{name}: no such file {query[name]}", "give the path of a PEM file", "file-missing")
    if password_file:
        _read_password(password_file, side)


def _read_password(path: str, side: Side) -> str:
    """The file's first line; one line end at its end is no part of the password."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise _wrong(
            side, f"password_file {path}: {reason}", "give the path of a readable file", "file-missing"
        ) from error
    lines = text.splitlines()
    if not lines or not lines[0]:
        raise _wrong(side, f"password_file {path} is empty", "write the password on its first line")
    return lines[0]


def _absolute(path: str | None) -> str | None:
    return str(Path(path).absolute()) if path else None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
