"""Files in an object store, opened by fsspec: whatever that knows can hold the chunks of a spool.

Credentials come from the environment of the process, as the package of the URL's scheme wants them; none is part of the
URL, and so none can reach a message.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sync_tasks.errors import KeyferryError, SpoolFull, StoreAway

WHOLE_BYTES = 24 << 20
"""What is larger is sent by the package itself, in parts."""
PATIENCE_S = 30.0
SLOWEST = 1 << 20
"""A store is away that has not done within so long what it is asked for, and so much longer as its bytes take at so
many a second: who waits says so, and tries again himself. Packages wait for ever in some places."""
REMOVAL_S = 120.0
_OPTIONS: dict[str, dict[str, Any]] = {
    # One part at a time: memory depends on no value.
    "s3": {
        "config_kwargs": {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 1}},
        "max_concurrency": 1,
    },
}
"""Options by scheme, each unless fsspec's own configuration has it."""
_DIRECTORIES = frozenset(("file", "local", "sftp", "ssh", "smb", "ftp", "hdfs", "webhdfs"))
_HINT = "see that it answers, that spool_url is right, and the credentials in the workers' environment"


class ObjectStore:
    """One place in a store: all names are relative to it. Usable by several threads, and on both sides of a fork.

    Args:
        url: as fsspec takes it, such as s3://bucket/prefix.

    All methods raise StoreAway for what the store does, or does not.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.mark = blake2b(self.url.encode(), digest_size=4).hexdigest()  # says which place it is, and not where
        self._opened: tuple[int, Any, str] | None = None  # by which process

    def put(self, file: Path, name: str) -> None:
        """Copy a file there, over what has that name. Raises OSError if the file is not here."""
        size = file.stat().st_size
        with self._doing("put a file"):
            system, path = self._made(name)
            if size <= WHOLE_BYTES:
                system.pipe_file(path, file.read_bytes(), **_within(system, size))
            else:
                system.put_file(str(file), path, **_within(system, size))

    def get(self, name: str, file: Path, size: int | None = None) -> bool:
        """Copy it into a file here; whether it is there. `size`: its bytes, as far as known. Raises SpoolFull."""
        with self._doing("get a file"):
            system, path = self._at(name)
            try:
                if size is None:
                    size = int(system.info(path, **_within(system)).get("size") or 0)
                system.get_file(path, str(file), **_within(system, size))
            except FileNotFoundError:
                return False
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise SpoolFull("no room left on the disk of the spool", hint="make room on that disk") from error
                raise
        return True

    def below(self, name: str = "") -> list[str]:
        """What stands directly below a name."""
        with self._doing("list files"):
            system, path = self._at(name)
            with suppress(FileNotFoundError):
                found = system.ls(path, detail=False, **_within(system))
                return sorted(str(one).rstrip("/").rpartition("/")[2] for one in found)
        return []

    def remove(self, name: str) -> None:
        """It, or all below it; it need not be there."""
        with self._doing("remove files"):
            system, path = self._at(name)
            with suppress(FileNotFoundError):
                system.rm(path, recursive=True, **_within(system, seconds=REMOVAL_S))

    def try_out(self) -> None:
        """See that a file can be written, read, and removed."""
        name = f"keyferry-{secrets.token_hex(4)}"
        with self._doing("write, read and remove a file"):
            system, path = self._made(name)
            system.pipe_file(path, name.encode(), **_within(system))
            read = system.cat_file(path, **_within(system))
            system.rm_file(path, **_within(system))
        if read != name.encode():
            raise _away("give back a file as it was written", "other bytes came")

    def _at(self, name: str) -> tuple[Any, str]:
        if self._opened is None or self._opened[0] != os.getpid():
            import fsspec

            scheme = self.url.partition("://")[0]
            set_elsewhere = fsspec.config.conf.get(scheme, {})
            options = {key: value for key, value in _OPTIONS.get(scheme, {}).items() if key not in set_elsewhere}
            options |= {"use_listings_cache": False, "skip_instance_cache": True}
            self._opened = os.getpid(), *fsspec.url_to_fs(self.url, **options)
        _, system, root = self._opened
        return system, "/".join(filter(None, (root.rstrip("/"), name)))

    def _made(self, name: str) -> tuple[Any, str]:
        """The same, where a file system wants a directory made first. In a store that would make a bucket."""
        system, path = self._at(name)
        if self.url.partition("://")[0] in _DIRECTORIES:
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
        return system, path

    @contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        try:
            yield
        except KeyferryError:
            raise
        except ImportError as error:
            raise StoreAway(
                f"{self.url.partition('://')[0]}:// cannot be opened here: {error.name or 'a package'} is missing",
                hint="install what fsspec names for it where the workers run; of s3 it is `keyferry[s3]`",
            ) from error
        except Exception as error:
            raise _away(what, type(error).__name__) from error


def _away(what: str, why: str) -> StoreAway:
    return StoreAway(f"the object store of the spool does not {what}: {why}", hint=_HINT)


def _within(system: Any, size: int = 0, seconds: float | None = None) -> dict[str, float]:
    """The argument that ends a call in time, of those packages whose calls can be ended."""
    if not getattr(system, "async_impl", False):
        return {}
    return {"timeout": PATIENCE_S + size / SLOWEST if seconds is None else seconds}
