"""Files of 16-byte hashes (`workers.codec.digest_cy`), some a source database, and a state that says which.

Each owner has a state and files of its own, named by its epoch, and begins with links to those of its predecessor: one
that was asleep and wakes up changes nothing for its successors.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sync_tasks.errors import KeyferryError, Malformed
from workers.codec.digest_cy import HASH_BYTES, distinct, of_part
from workers.spool.files import make_durable, write_all
from workers.spool.sealing import unwrapped, wrapped

BLOCK_BYTES = 4 << 20
LOOSE_BYTES = 32 << 20
"""The files of a database are sorted into one once they have grown by their own size and this."""
PART_HASHES = 3_000_000
"""So many are sorted at a time, some 100 MB."""
STATE = re.compile(r"state-(\d+)")
Found = dict[int, list[bytes]]
"""Hashes by the database whose files they go to."""


@dataclass(slots=True)
class State:
    """What is known, and where it is; databases are keys of JSON objects, and so strings."""

    offset: int | None = None  # of the log's byte before the first one that is not in
    db: int = 0  # the stream's database there
    begins: bool = False  # the log is to begin at `offset`: one that begins elsewhere is the one before
    gens: list[int] = field(default_factory=list)  # snapshots, whole or void
    streamed: list[int] = field(default_factory=list)  # snapshots behind which a stream has begun
    libraries: list[str] = field(default_factory=list)  # names of function libraries that were brought
    files: dict[str, list[tuple[str, int]]] = field(default_factory=dict)  # names, and bytes that count
    sorted: dict[str, int] = field(default_factory=dict)  # bytes when they were last sorted
    partial: bool = False  # keys that were brought before `offset` are still being looked for
    base: list[int] = field(default_factory=list)  # snapshot and offset; what a target had only before is not in
    shared: dict[str, int] = field(default_factory=dict)  # databases that were swapped share the files of one of them

    def home(self, db: int) -> int:
        """The database whose files have the keys of `db`."""
        return self.shared.get(str(db), db)

    def size(self, db: int) -> int:
        return sum(size for _, size in self.files.get(str(self.home(db)), []))

    def swap(self, one: int, two: int) -> None:
        """Whatever is in one of both may be in either from now on."""
        stays, goes = self.home(one), self.home(two)
        if stays == goes:
            return
        self.files.setdefault(str(stays), []).extend(self.files.pop(str(goes), []))
        self.shared.update({db: stays for db, file in self.shared.items() if file == goes})
        self.shared.update({str(one): stays, str(two): stays, str(goes): stays})


def bits_of(count: int) -> int:
    """Into how many parts, as a power of 2, so many hashes are to be divided, that each fits into memory."""
    return max(0, ((count - 1) // PART_HASHES).bit_length())


class HashFiles:
    """Of one owner.

    Args:
        directory: of the files; may be missing.
        epoch: of the owner, higher than any former owner's.

    All methods raise OSError and ControlError for what the disk does.
    """

    def __init__(self, directory: Path, epoch: int) -> None:
        self._directory, self._epoch = directory, epoch
        self._number = 0  # of our files
        self._own: set[str] = set()  # files to which nobody else appends
        self._old: list[str] = []  # files of ours that are to go with the next state
        self._unsafe: set[Path] = set()  # written, and perhaps not yet on the disk

    @property
    def superseded(self) -> bool:
        """Whether there are files that the next state lets go."""
        return bool(self._old)

    def remove(self) -> None:
        """Nothing is there any more, neither ours nor our predecessors'."""
        self._old, self._unsafe = [], set()
        with suppress(OSError, KeyferryError):
            for epoch, path in self._states():
                if epoch <= self._epoch:
                    path.unlink()
            make_durable(self._directory)

    def append(self, found: Found, state: State) -> None:
        """Put hashes down; `state` says so, and is to be written."""
        for db, hashes in found.items():
            data = b"".join(hashes)
            if not data:
                continue
            files = state.files.setdefault(str(db), [])
            if not files or files[-1][0] not in self._own:
                files.append((self._new(db), 0))
            name, size = files[-1]
            self._put(name, data, size)
            files[-1] = (name, size + len(data))
            if state.size(db) > 2 * state.sorted.get(str(db), 0) + LOOSE_BYTES:
                self._sort(db, state)

    def _sort(self, db: int, state: State) -> None:
        """Into one file; the others go with the next state."""
        name, size, bits = self._new(db), 0, bits_of(state.size(db) // HASH_BYTES)
        for part in range(1 << bits):
            data = distinct(b"".join(self.parts(state, db, bits, part)))
            self._put(name, data, size)
            size += len(data)
        self._old += [old for old, _ in state.files[str(db)]]
        state.files[str(db)], state.sorted[str(db)] = [(name, size)], size

    def _new(self, db: int) -> str:
        name = f"{db}-{self._epoch}-{self._next()}"
        self._own.add(name)
        return name

    def _put(self, name: str, data: bytes, size: int) -> None:
        """Write behind the first `size` bytes of a file; the next `write` makes it durable."""
        path = self._directory / name
        fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            if os.fstat(fd).st_size < size:
                raise Malformed(f"{name} has lost its end")
            os.ftruncate(fd, size)
            os.lseek(fd, size, os.SEEK_SET)
            write_all(fd, [data], size)
        finally:
            os.close(fd)
        self._unsafe.add(path)

    def write(self, state: State) -> None:
        """From now on this holds, and what was put down."""
        for path in self._unsafe:
            make_durable(path)
        self._unsafe.clear()
        self._directory.mkdir(parents=True, exist_ok=True)
        new, path = self._directory / f"new-{self._epoch}", self._directory / f"state-{self._epoch}"
        new.write_bytes(wrapped(json.dumps(asdict(state)).encode()))
        make_durable(new)
        new.replace(path)
        make_durable(path)
        for name in self._old:
            (self._directory / name).unlink(missing_ok=True)
        self._old = []

    def _states(self) -> list[tuple[int, Path]]:
        """Epochs and files, the latest last."""
        if not self._directory.is_dir():
            return []
        return sorted((int(m[1]), p) for p in self._directory.iterdir() if (m := STATE.fullmatch(p.name)))

    def inherit(self) -> State | None:
        """What the last owner has left, under names of ours. None: nothing, or not all of it, or a later owner's."""
        states = self._states()
        if not states or states[-1][0] > self._epoch:
            return None
        values = json.loads(unwrapped(states[-1][1].read_bytes()))
        values["files"] = {db: [(name, size) for name, size in files] for db, files in values["files"].items()}
        state = State(**values)
        for db, files in state.files.items():
            for at, (name, size) in enumerate(files):
                if (self._directory / name).stat().st_size < size:
                    raise Malformed(f"{name} has lost its end")
                new = f"{db}-{self._epoch}-{self._next()}"
                (self._directory / new).unlink(missing_ok=True)
                os.link(self._directory / name, self._directory / new)
                files[at] = (new, size)
        self.write(state)
        self._clear(state)
        return state

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _clear(self, state: State) -> None:
        """Remove what former owners have left."""
        mine = {name for files in state.files.values() for name, _ in files} | {f"state-{self._epoch}"}
        for path in self._directory.iterdir():
            if path.name not in mine:
                path.unlink(missing_ok=True)

    def parts(self, state: State, db: int, bits: int, part: int) -> Iterator[bytes]:
        """What is there of one part, in pieces."""
        for name, size in state.files.get(str(state.home(db)), []):
            left = size
            with (self._directory / name).open("rb") as file:
                while left and (data := file.read(min(left, BLOCK_BYTES))):
                    yield of_part(data, bits, part)
                    left -= len(data)
