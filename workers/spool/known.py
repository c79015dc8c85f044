"""Which keys of a node may be on the target though no chunk file says so any more: those of the snapshots that were
loaded, and all that the log has named since. A full sync in place removes those which its snapshot no longer has.

One file of 16-byte hashes (`workers.codec.digest_cy`) a source database, appended to and now and then sorted; `state`
says how far the log is in them. What the log is about to forget is taken in first, so both together are whole.
A FLUSHALL takes nothing out: a target that falls back to before it has the keys again.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sync_tasks.errors import KeyferryError, Malformed
from workers.codec.digest_cy import HASH_BYTES, command_hashes, distinct, key_hash, of_part
from workers.codec.resp_cy import MORE, Scanner
from workers.named import TABLE, named
from workers.spool.chunks import key_hashes
from workers.spool.files import make_durable, write_all
from workers.spool.log import Cursor, Log

logger = logging.getLogger(__name__)

STEP_BYTES = 4 << 20
"""So much of the log is read at a time."""
LOOSE_BYTES = 32 << 20
"""A file is sorted anew once it has grown by its own size and this."""
PART_HASHES = 3_000_000
"""So many are sorted at a time, some 100 MB."""


@dataclass(slots=True)
class _State:
    """What is in the files. `sizes`: bytes of each, by database; what is behind them does not count."""

    offset: int | None = None  # of the log's byte before the first one that is not in
    db: int = 0  # the stream's database there
    gens: list[int] = field(default_factory=list)  # snapshots, whole or void
    sizes: dict[str, int] = field(default_factory=dict)
    sorted: dict[str, int] = field(default_factory=dict)  # sizes when they were last sorted
    times: dict[str, int] = field(default_factory=dict)  # how often they were: part of their names
    shared: dict[str, int] = field(default_factory=dict)  # databases that were swapped share the file of one of them

    def file(self, db: int) -> int:
        """The database whose file has the keys of `db`."""
        return self.shared.get(str(db), db)


def bits_of(count: int) -> int:
    """Into how many parts, as a power of 2, so many hashes are to be divided, that each fits into memory."""
    return max(0, ((count - 1) // PART_HASHES).bit_length())


class Known:
    """Of one node. Usable by several threads.

    Args:
        directory: in the spool; made by `create`.
        uid: of the task's run.

    What cannot be written is forgotten with all the rest: the log must be able to shrink where the disk is full.
    """

    def __init__(self, directory: Path, uid: str) -> None:
        self._directory, self.seed = directory, uid.encode()
        self._lock = threading.RLock()
        self._state = self._read()

    # --- whether it is all there

    @property
    def whole(self) -> bool:
        """Whether nothing is missing: it began with the task, and has lost nothing since."""
        with self._lock:
            return self._state is not None

    @property
    def gens(self) -> Collection[int]:
        """Snapshots whose keys are in, or were never on the target without being removed again."""
        with self._lock:
            return set(self._state.gens) if self._state else ()

    @property
    def offset(self) -> int | None:
        """Up to where the log has been taken in."""
        with self._lock:
            return self._state.offset if self._state else None

    def create(self) -> None:
        """Nothing of this node is on the target yet."""
        with self._lock:
            if self._state is None:
                self._state = _State()
                with self._or_forget():
                    self._write()

    def forget(self) -> None:
        """Something is missing: nobody can say any more which keys are ours."""
        with self._lock:
            self._state = None
            (self._directory / "state").unlink(missing_ok=True)

    # --- what comes in

    def begin(self, offset: int, db: int) -> None:
        """A snapshot was received; its log begins at `offset`, in the stream's database `db`."""
        with self._lock:
            if self._state is not None:
                self._state.offset, self._state.db = offset, db
                with self._or_forget():
                    self._write()

    def go_on(self, offset: int, db: int) -> None:
        """The log was begun anew in mid-stream: what lies between is missing, what comes twice does no harm."""
        with self._lock:
            if self._state is None:
                return
            if self._state.offset is None or offset > self._state.offset:
                self.forget()
            else:
                self.begin(offset, db)

    def fold(self, log: Log, stop: int | None = None) -> None:
        """Take in what the log names up to an offset, or all there is; a command that is not whole is left."""
        with self._lock:
            state = self._state
            if state is None or state.offset is None or log.start is None:
                return
            if state.offset < log.start:
                self.forget()
                return
            if state.offset >= min(log.end or 0, stop or 1 << 62):
                return
            with self._or_forget():
                for found in self._hashes(log, state, 1 << 62 if stop is None else stop):
                    self._append(found)
                    self._write()

    def _hashes(self, log: Log, state: _State, stop: int) -> Iterator[dict[int, list[bytes]]]:
        """What the log names, by source database, some at a time; `state` is moved on with each."""
        assert state.offset is not None
        cursor, scanner = Cursor(log, state.offset), Scanner(TABLE)
        data, want, more = b"", STEP_BYTES, True
        try:
            while more:
                parts, size = [data], len(data)
                while more and size < want:
                    block = cursor.read()
                    more = block is not None and block.end <= stop
                    if block is not None and more:
                        parts.append(block.data)
                        size += len(block.data)
                data = b"".join(parts)
                found: dict[int, list[bytes]] = {}
                done = self._scan(scanner, data, state, found)
                data = data[done:]
                state.offset += done
                want = max(STEP_BYTES, 2 * len(data))
                yield found
        finally:
            cursor.close()

    def _scan(self, scanner: Scanner, data: bytes, state: _State, found: dict[int, list[bytes]]) -> int:
        pos = 0
        while True:
            end, count, why, argv, after, kind = scanner.scan(data, pos, 1 << 62, 1 << 62)
            if count:
                found.setdefault(state.file(state.db), []).append(command_hashes(data, pos, end, self.seed))
            if why == MORE:
                return int(end)
            if kind == "select":
                state.db = int(argv[1])
            elif kind == "swap":
                self._swap(state, int(argv[1]), int(argv[2]), found)
            elif kind is not None:
                for db, key in named(kind, argv, state.db):
                    found.setdefault(state.file(db), []).append(key_hash(key, self.seed))
            pos = after

    def _swap(self, state: _State, one: int, two: int, found: dict[int, list[bytes]]) -> None:
        """Whatever is in one of both may be in either from now on: one file for both."""
        stays, goes = state.file(one), state.file(two)
        if stays == goes:
            return
        found.setdefault(stays, []).extend([self.part(two, 0, 0), *found.pop(goes, [])])
        state.sizes.pop(str(goes), None)
        state.shared.update({db: stays for db, file in state.shared.items() if file == goes})
        state.shared.update({str(one): stays, str(two): stays, str(goes): stays})

    def add(self, gen: int, chunks: Iterable[tuple[int, Path, int]]) -> None:
        """Take in a snapshot that was loaded, before its files go; earlier ones were swept.

        Args:
            chunks: source database, file, and number of keys of each.
        """
        with self._lock:
            if self._state is None or gen in self._state.gens:
                return
            with self._or_forget():
                for db, path, keys in chunks:
                    hashes = key_hashes(path, self.seed)
                    if len(hashes) != keys * HASH_BYTES:
                        raise Malformed(f"{path.name} holds other keys than were loaded")
                    self._append({self._state.file(db): [hashes]})
                self._state.gens = [*range(1, gen + 1)]
                self._write()

    # --- what is in

    def databases(self) -> list[int]:
        """Source databases of which something is known."""
        with self._lock:
            return sorted({int(db) for db in (*self._state.sizes, *self._state.shared)}) if self._state else []

    def count(self, db: int) -> int:
        """At most so many hashes, some of them perhaps of a database that it was swapped with."""
        with self._lock:
            return self._state.sizes.get(str(self._state.file(db)), 0) // HASH_BYTES if self._state else 0

    def part(self, db: int, bits: int, part: int) -> bytes:
        """Hashes of one part, in no order, some more than once."""
        with self._lock:
            found: list[bytes] = []
            if self._state is None:
                return b""
            db = self._state.file(db)
            if left := self._state.sizes.get(str(db), 0):
                with self._path(db).open("rb") as file:
                    while left and (data := file.read(min(left, STEP_BYTES))):
                        found.append(of_part(data, bits, part))
                        left -= len(data)
            return b"".join(found)

    # --- files

    @contextmanager
    def _or_forget(self) -> Iterator[None]:
        try:
            yield
        except (KeyferryError, OSError, ValueError, IndexError) as error:
            logger.warning("what is on the target is no longer known: %s", error)
            self.forget()

    def _path(self, db: int, times: int | None = None) -> Path:
        assert self._state is not None
        return self._directory / f"{db}-{self._state.times.get(str(db), 0) if times is None else times}"

    def _append(self, found: dict[int, list[bytes]]) -> None:
        assert self._state is not None
        for db, hashes in found.items():
            data, name = distinct(b"".join(hashes)), str(db)
            if not data:
                continue
            size = self._state.sizes.get(name, 0)
            _put(self._path(db), data, size)
            self._state.sizes[name] = size + len(data)
            if size + len(data) > 2 * self._state.sorted.get(name, 0) + LOOSE_BYTES:
                self._sort(db)

    def _sort(self, db: int) -> None:
        """Into a file of its own, which the state then names."""
        assert self._state is not None
        old, times, name = self._path(db), self._state.times.get(str(db), 0) + 1, str(db)
        bits, size = bits_of(self.count(db)), 0
        for part in range(1 << bits):
            data = distinct(self.part(db, bits, part))
            _put(self._path(db, times), data, size)
            size += len(data)
        self._state.sizes[name] = self._state.sorted[name] = size
        self._state.times[name] = times
        self._write()
        old.unlink(missing_ok=True)

    def _write(self) -> None:
        assert self._state is not None
        new = self._directory / "state.new"
        self._directory.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(asdict(self._state)))
        make_durable(new)
        new.replace(self._directory / "state")
        make_durable(self._directory / "state")

    def _read(self) -> _State | None:
        try:
            state = _State(**json.loads((self._directory / "state").read_text()))
            for db, size in state.sizes.items():
                path = self._directory / f"{db}-{state.times.get(db, 0)}"
                if path.stat().st_size < size:
                    return None
        except (OSError, ValueError, TypeError):
            return None
        return state


def _put(path: Path, data: bytes, size: int) -> None:
    """Write behind the first `size` bytes of a file, durably."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.ftruncate(fd, size)
        os.lseek(fd, size, os.SEEK_SET)
        write_all(fd, [data], size)
    finally:
        os.close(fd)
    make_durable(path)
