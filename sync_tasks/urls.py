"""URLs of users' servers, read. No error shows the URL: what is wrong in it may be its password."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from sync_tasks.errors import Side, UsageError

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
CLUSTER = ("redis+cluster", "rediss+cluster")
SENTINEL = ("redis+sentinel", "rediss+sentinel")
SCHEMES = ("redis", "rediss", "unix", *CLUSTER, *SENTINEL)
TLS = tuple(name for name in SCHEMES if name.startswith("rediss"))
TLS_KEYS = ("ca", "cert", "key", "sni")
SENTINEL_KEYS = ("sentinel_username", "sentinel_password_file")
FORM = (
    "write redis://[user:password@]host:port[/db], redis+cluster://host:port,host:port,"
    " redis+sentinel://host:port,host:port/master, their rediss forms for TLS, or unix:///path"
)


def read(url: str, side: Side, password: str | None) -> dict[str, Any]:
    """The fields of an Endpoint that a URL gives; arguments and errors as `Endpoint.parse` says. Reads no file."""
    parts = _split(url, side)
    query = _query(parts, side)
    username, secret = _userinfo(parts, password is not None or "password_file" in query)
    where = _where(parts, query, side)
    if "key" in query and "cert" not in query:
        raise _wrong(side, "key without cert", "give the client certificate too: ?cert=FILE&key=FILE")
    file = query.pop("password_file", None)
    return {
        "scheme": parts.scheme,
        "username": username,
        "password": secret if secret is not None else (None if file else password),
        "tls": parts.scheme in TLS,
        "password_file": _absolute(file),
        "sentinel_username": query.get("sentinel_username"),
        "sentinel_password_file": _absolute(query.get("sentinel_password_file")),
        "ca": _absolute(query.get("ca")),
        "cert": _absolute(query.get("cert")),
        "key": _absolute(query.get("key")),
        "sni": query.get("sni"),
        **where,
    }


def _wrong(side: Side, what: str, hint: str = FORM, code: str = "url") -> UsageError:
    return UsageError(f"{side.value} URL: {what}", hint=hint, code=code)


def _split(url: str, side: Side) -> SplitResult:
    scheme, mark, _ = url.partition("://")
    if not mark:
        raise _wrong(side, "it has no scheme")
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
        *(TLS_KEYS if parts.scheme in TLS else ()),
        *(("db",) if parts.scheme in ("unix", *SENTINEL) else ()),
        *(SENTINEL_KEYS if parts.scheme in SENTINEL else ()),
    ]
    query: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in TLS_KEYS and name not in known:
            raise _wrong(side, f"{name} is for TLS alone", f"use {parts.scheme.replace('redis', 'rediss')}://")
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


def _where(parts: SplitResult, query: dict[str, str], side: Side) -> dict[str, Any]:
    if parts.scheme == "unix":
        return _unix(parts, query, side)
    if parts.scheme in CLUSTER:
        return _cluster(parts, side)
    return _sentinel(parts, query, side) if parts.scheme in SENTINEL else _tcp(parts, side)


def _cluster(parts: SplitResult, side: Side) -> dict[str, Any]:
    """Some nodes of a cluster, from which the others are learned."""
    if parts.path.strip("/") not in ("", "0"):
        hint = "leave out what stands behind the addresses; the setting `databases` says which of several"
        raise _wrong(side, "a cluster is named without a database", hint)
    return {"nodes": _nodes(parts, side, DEFAULT_PORT), "db": None}


def _sentinel(parts: SplitResult, query: dict[str, str], side: Side) -> dict[str, Any]:
    """Some Sentinels, and the name that they know a master by."""
    master = unquote(parts.path.strip("/"))
    if not master or "/" in master:
        raise _wrong(side, "it names no master", "write redis+sentinel://host:port,host:port/master-name")
    db = _db(query.pop("db"), side) if "db" in query else None
    return {"nodes": _nodes(parts, side, SENTINEL_PORT), "master": master, "db": db}


def _nodes(parts: SplitResult, side: Side, port: int) -> tuple[tuple[str, int], ...]:
    """The addresses of a list, with commas between them; each once."""
    found: list[tuple[str, int]] = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"redis://{text}")
        except ValueError:
            raise _wrong(side, "it cannot be read", "an IPv6 address stands in [ ]") from None
        place = _tcp(one, side, port)
        found.append((place["host"], place["port"]))
    return tuple(dict.fromkeys(found))


def _tcp(parts: SplitResult, side: Side, default: int = DEFAULT_PORT) -> dict[str, Any]:
    try:
        port = parts.port if parts.port is not None else default
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


def check_files(
    ca: str | None, cert: str | None, key: str | None, password_file: str | None, side: Side,
    sentinel_file: str | None = None,
) -> None:  # fmt: skip
    """Whether the files that a URL names are there, and the password can be read. Raises UsageError."""
    for name, path in (("ca", ca), ("cert", cert), ("key", key)):
        if path is not None and not Path(path).is_file():
            raise _wrong(side, f"{name}: no such file {path}", "give the path of a PEM file", "file-missing")
    for file in (password_file, sentinel_file):
        if file:
            read_password(file, side)


def _absolute(path: str | None) -> str | None:
    return str(Path(path).absolute()) if path else None


def read_password(path: str, side: Side) -> str:
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
