"""Sources that are no server: an RDB file on disk, or an object that fsspec can open."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

from sync_tasks.answers import classify
from sync_tasks.errors import (
    ConnectionLost,
    CredentialsRefused,
    KeyferryError,
    Malformed,
    Retry,
    Side,
    SourceError,
    UsageError,
)

if TYPE_CHECKING:
    from sync_tasks.endpoints import Endpoint

FILE = "file"
STDIN = "-"
BACKENDS = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
    "adl": "adlfs", "oss": "ossfs", "oci": "ocifs", "http": "aiohttp", "https": "aiohttp", "ftp": "",
    "sftp": "paramiko", "ssh": "paramiko", "hdfs": "pyarrow", "webhdfs": "requests", "smb": "smbprotocol",
}  # fmt: skip
"""Schemes of object storage and the like, each with the package that fsspec needs besides for it."""
SCHEMES = (FILE, *BACKENDS)
FAMILIES = (b"REDIS", b"VALKEY")
BLOCK = 1 << 20  # bytes that are read of it at once


def is_dump(text: str) -> bool:
    """Whether a source, as a user writes it, is a file: a URL of one of SCHEMES, a name that ends in .rdb, or a file
    that is there."""
    scheme, mark, _ = text.partition("://")
    if mark:
        return scheme in SCHEMES
    return text.endswith(".rdb") or Path(text).is_file()


def read(text: str) -> dict[str, Any]:
    """The fields of an Endpoint that it gives; no error shows more of it than its scheme. Raises UsageError."""
    scheme, mark, rest = text.partition("://")
    if not mark:
        return {"scheme": FILE, "path": str(Path(text).absolute())}
    if scheme == FILE:
        path = unquote(rest.removeprefix("localhost"))
        if not path.startswith("/"):
            raise UsageError("source URL: the path is not absolute", hint="write file:///path/to/dump.rdb", code="url")
        return {"scheme": FILE, "path": path}
    parts = urlsplit(text)
    info, _, place = parts.netloc.rpartition("@")
    user, _, password = info.partition(":")
    if not place or not parts.path.strip("/"):
        raise UsageError("source URL: it names no object", hint=f"write {scheme}://bucket/path/dump.rdb", code="url")
    return {
        "scheme": scheme,
        "path": place + unquote(parts.path),
        "username": unquote(user) or None,
        "password": unquote(password) or None,
        "query": parts.query or None,
    }


def check(endpoint: Endpoint) -> None:
    """Whether a file on disk is there. Raises UsageError."""
    if endpoint.scheme == FILE and not Path(endpoint.path).is_file():
        raise UsageError(
            f"source: no such file {endpoint.path}", hint="give the path of an RDB file", code="file-missing"
        )


def written(endpoint: Endpoint, password: str | None, query: str | None) -> str:
    """The URL of an endpoint, with these secrets; the query only if it has one."""
    if endpoint.scheme == FILE:
        return f"{FILE}://{quote(endpoint.path)}"
    user = quote(endpoint.username or "", safe="")
    info = f"{user}:{password}@" if password is not None else f"{user}@" if user else ""
    return f"{endpoint.scheme}://{info}{quote(endpoint.path, safe='/:')}" + (f"?{query}" if endpoint.query else "")


@dataclass(frozen=True, slots=True)
class Dump:
    """One that is open.

    Args:
        file: at its beginning.
        size: bytes; None: not known.
        id: 40 hex digits, which change when it is replaced.
    """

    file: BinaryIO
    size: int | None
    id: str

    def blocks(self) -> Iterator[bytes]:
        """Its bytes. Raises ConnectionLost, SourceError."""
        while True:
            try:
                data = self.file.read(BLOCK)
            except Exception as error:
                raise _failed(error, "it") from error
            if not data:
                return
            yield data


@contextmanager
def opened(endpoint: Endpoint) -> Iterator[Dump]:
    """An RDB file that can be read. Raises SourceError, CredentialsRefused, ConnectionLost; Malformed: it is none."""
    try:
        file, size, stamp = _local(endpoint.path) if endpoint.scheme == FILE else _remote(endpoint)
    except (ImportError, ValueError) as error:
        raise _no_backend(endpoint.scheme, error) from error
    except Exception as error:
        raise _failed(error, endpoint.safe()) from error
    with file:
        name = f"{endpoint.scheme}://{endpoint.path} {size} {stamp}"
        dump = Dump(file, size, mark("dump", name))
        yield dump


def look(endpoint: Endpoint) -> str:
    """What it is, for people. Raises as `opened`."""
    with opened(endpoint) as dump:
        head = next(dump.blocks(), b"")[:9]
        family = next((one for one in FAMILIES if head.startswith(one)), None)
        if family is None or not head[len(family) :].isdigit():
            raise Malformed(f"{endpoint.safe()} is no RDB file: it begins with neither REDIS nor VALKEY", 0)
        size = "of unknown size" if dump.size is None else f"{dump.size} bytes"
        return f"an RDB file of {family.decode().title()}, version {int(head[len(family) :])}, {size}"


KINDS = {"dump": "6b65796665727264", "scan": "6b65796665727363"}
"""Begin the ids of what is no server's stream: 40 hex digits, as a server's replication id has."""


def mark(kind: str, text: str) -> str:
    """An id in the place of a replication id."""
    return KINDS[kind] + hashlib.sha256(text.encode()).hexdigest()[:24]


def _local(path: str) -> tuple[BinaryIO, int | None, str]:
    file = Path(path).open("rb")  # noqa: SIM115 - closed by `opened`
    stat = Path(path).stat()
    return file, stat.st_size, f"{stat.st_ino} {stat.st_mtime_ns}"


def _remote(endpoint: Endpoint) -> tuple[BinaryIO, int | None, str]:
    import fsspec

    url = endpoint.url()
    system, path = fsspec.url_to_fs(url)
    info = system.info(path)
    size = info.get("size")
    file = system.open(path, "rb", block_size=8 << 20, cache_type="readahead") if size else system.open(path, "rb")
    stamp = next((str(info[name]) for name in ("ETag", "etag", "LastModified", "mtime", "updated") if name in info), "")
    return file, None if size is None else int(size), stamp


def _no_backend(scheme: str, error: Exception) -> SourceError:
    package = BACKENDS.get(scheme, "")
    said = f": {str(error)[:200]}" if isinstance(error, ImportError) else ""  # others repeat the URL
    return SourceError(
        f"{scheme}:// cannot be opened here{said}",
        code="no-backend",
        hint=f"install `keyferry[objects]`{f' and {package}' if package else ''} where the stream workers run",
    )


def _failed(error: Exception, what: str) -> KeyferryError:
    if isinstance(error.__cause__, OSError):  # fsspec calls a server that does not answer a file that is not there
        return _failed(error.__cause__, what)
    if isinstance(error, FileNotFoundError):
        return SourceError(
            f"{what} is not there", code="file-missing", hint="put it there again, or name another", retry=Retry.OTHER
        )
    if isinstance(error, IsADirectoryError):
        return SourceError(f"{what} is a directory", code="file-missing", hint="name a file in it")
    if isinstance(error, PermissionError):
        return CredentialsRefused(
            f"{what} may not be read", side=Side.SOURCE,
            hint="let the workers' user read it; credentials of object storage come from the workers' environment",
        )  # fmt: skip
    if isinstance(error, io.UnsupportedOperation) or not isinstance(error, OSError):
        return ConnectionLost(
            f"{what} cannot be read: {type(error).__name__}", side=Side.SOURCE,
            hint="check the URL and the credentials in the workers' environment",
        )  # fmt: skip
    return classify(error, Side.SOURCE)
