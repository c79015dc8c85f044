"""Chunk files of a spool whose place is an object store. Each has the name there that its file would have in the spool.

What a stream worker has received it writes to its own disk, as always, and puts there from there. Of each file it keeps
what it will ask for once all is loaded: the keys, in a chunk file of records whose values are cut to their types. So no
chunk comes back over the network, but to whoever loads it. A stream worker that has no such file makes it of what the
store has.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from zlib_ng.zlib_ng import crc32

from sync_tasks.errors import ControlError, Retry, StoreAway
from sync_tasks.objects import ObjectStore
from sync_tasks.views import STORED
from workers.codec.volatile_cy import stripped
from workers.spool.chunks import RECORD, TO_THE_END
from workers.spool.files import disk_error
from workers.spool.sealing import is_sealed, opened, piece, reading, size_of
from workers.spool.sums import is_intact
from workers.spool.tables import TABLES

KEYS = ".keys"
FETCHED = "fetched"
"""Directory of a run for what is only here while it is used."""


class Stored:
    """What lies in the store and what of it lies here. Usable by several threads.

    Args:
        store: the object store.
        spool: the spool's directory on this host.
    """

    def __init__(self, store: ObjectStore, spool: Path) -> None:
        self.store, self.spool = store, spool
        self._lock = threading.Lock()
        self._kept: dict[Path, dict[str, Path]] = {}  # by directory: name of a chunk's file to that of its keys

    def recorded(self, path: Path) -> str:
        """How the row of a chunk names the file that the store has instead of one here, and which store that is."""
        return f"{STORED}{self.store.mark}/{path.relative_to(self.spool).as_posix()}"

    def is_elsewhere(self, recorded: str) -> bool:
        """Whether a row names a file of another object store than this one."""
        return recorded.startswith(STORED) and not recorded.startswith(f"{STORED}{self.store.mark}/")

    def here(self, recorded: str) -> Path:
        """Where the file that a row names would lie here."""
        return self.spool / _name(recorded)

    def put(self, path: Path) -> str:
        """Put a file into the store; how a row names it. Raises StoreAway, ControlError."""
        try:
            self.store.put(path, path.relative_to(self.spool).as_posix())
        except OSError as e:
            raise disk_error(e) from e
        return self.recorded(path)

    def take(self, path: Path) -> str:
        """Put a chunk file there, of which the keys stay here. Raises StoreAway, SpoolFull, ControlError."""
        self._keep(path, path)
        return self.put(path)

    def put_tables(self, directory: Path) -> None:
        """Put there what loaders must know of a snapshot. Raises StoreAway, ControlError."""
        self.put(directory / TABLES)

    def fetch(
        self, recorded: str, directory: Path, size: int | None, check: Callable[[], None], *, late: bool = False
    ) -> Path:
        """A chunk's file, as it was written, in a directory here. What came otherwise is fetched once more.

        Args:
            size: its bytes; None: whatever it has.
            check: called now and then; what it raises ends it.
            late: a file that is missing may only be late: StoreAway.
        Raises ControlError: the store has another file, or none, or it lies in another store; StoreAway, SpoolFull.
        """
        if self.is_elsewhere(recorded):
            raise no_store(recorded)  # not missing: no other snapshot is to be taken for a worker that was told wrongly
        path = directory / Path(recorded).name
        what = "is missing"
        for _ in range(2):
            if not self._get(_name(recorded), path, size):
                what = "is missing"
            elif not is_intact(path, check):
                what = "has another checksum than when it was written"
            elif size is not None and size_of(path) != size:
                what = f"has {size_of(path)} bytes, not {size}"
            else:
                return path
        if late and what == "is missing":
            raise _late(_name(recorded))
        raise ControlError(
            f"the snapshot in the object store is damaged: {_name(recorded)} {what}",
            code="snapshot-damaged",
            hint="another snapshot is taken by itself; see who else writes there, or removes files",
            retry=Retry.OTHER,
        )

    def fetch_tables(self, recorded: str, directory: Path, *, late: bool = False) -> None:
        """What must be known of a chunk's snapshot to load it. It is looked at by whoever reads it, also if missing.
        Raises as `fetch`."""
        if self.is_elsewhere(recorded):
            raise no_store(recorded)
        name = f"{_name(recorded).rpartition('/')[0]}/{TABLES}"
        if not self._get(name, directory / TABLES, None) and late:
            raise _late(name)

    def _get(self, name: str, path: Path, size: int | None) -> bool:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_private(path)
        except OSError as e:
            raise disk_error(e) from e
        return self.store.get(name, path, size)

    # --- what stays here

    def keys(self, recorded: str) -> Path:
        """A chunk file with the keys of a chunk, and without their values. It is not there if the chunk's file cannot
        be had as it was written. Raises StoreAway, SpoolFull, ControlError."""
        path = self.here(recorded)
        kept = self._find(path)
        if kept is not None and is_intact(kept):
            return kept
        directory = path.parent / f"{FETCHED}-{secrets.token_hex(4)}"  # several threads of a job may ask
        try:
            return self._keep(self.fetch(recorded, directory, None, lambda: None), path)
        except StoreAway:
            raise
        except ControlError as error:
            if error.code != "snapshot-damaged":
                raise
            return path
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _find(self, path: Path) -> Path | None:
        with self._lock:
            found = self._kept.get(path.parent, {}).get(path.name)
            if found is None and path.parent.is_dir():
                self._kept[path.parent] = {
                    one.name.partition(KEYS + ".")[0] + ".chunk": one
                    for one in path.parent.iterdir() if KEYS + "." in one.name
                }  # fmt: skip
                found = self._kept[path.parent].get(path.name)
        return found if found is not None and found.exists() else None

    def _keep(self, source: Path, path: Path) -> Path:
        """Write down the keys of a chunk file, which the spool would have at `path`."""
        try:
            data = _keys_of(source)
            if is_sealed(path):
                data = piece(reading(), 0, data)
            kept = path.with_name(f"{path.name.removesuffix('.chunk')}{KEYS}.{crc32(data):08x}.chunk")
            # Another thread may be reading the same: whole or not at all.
            part = path.with_name(f"{secrets.token_hex(4)}.part")
            _make_private(part)
            part.write_bytes(data)
            part.replace(kept)
        except OSError as e:
            raise disk_error(e) from e
        with self._lock:
            self._kept.setdefault(path.parent, {})[path.name] = kept
        return kept


def _name(recorded: str) -> str:
    return recorded.removeprefix(STORED).partition("/")[2]


def _late(name: str) -> StoreAway:
    return StoreAway(f"the object store of the spool does not show {name} yet", hint="it is asked for again by itself")


def _make_private(path: Path) -> None:
    """Make it, as the chunk files of a spool are: whoever fills it leaves it so."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def _keys_of(path: Path) -> bytes:
    with opened(path) as file:
        head = file.read(RECORD.size)
        if len(head) < RECORD.size:
            return b""
        _, key_size, value_size = RECORD.unpack(head)
        if value_size == TO_THE_END:
            return head + file.read(key_size + 1)
        return bytes(stripped(head + file.read()))


def no_store(recorded: str) -> ControlError:
    """Whoever is to read that chunk does not know where."""
    return ControlError(
        f"{_name(recorded)} lies in an object store, and this worker was told of another one, or of none",
        code="spool-store",
        hint="give every worker the same spool_url (KEYFERRY_SPOOL_URL)",
        retry=Retry.OTHER,
    )
