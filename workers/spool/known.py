"""Which keys of a node may be on the target though no chunk file says so any more: those of the snapshots that were
loaded, and all that the log has named since. A full sync in place removes those which its snapshot no longer has.

Files of 16-byte hashes (`workers.codec.digest_cy`), some a source database, and a state that says which, and how far
the log is in them. What the log is about to forget is taken in first, so both together are whole. A FLUSHALL takes
nothing out: a target that falls back to before it has the keys again.

Each owner has a state and files of its own, named by its epoch, and begins with links to those of its predecessor: one
that was asleep and wakes up changes nothing for its successors.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sync_tasks.errors import KeyferryError, Malformed
from workers.codec.digest_cy import HASH_BYTES, command_hashes, distinct, key_hash, of_part
from workers.codec.resp_cy import MORE, Scanner
from workers.named import TABLE, library, named
from workers.spool.chunks import key_hashes
from workers.spool.files import disk_error, make_durable, write_all
from workers.spool.log import Cursor, Log

logger = logging.getLogger(__name__)

STEP_BYTES = 4 << 20
"""So much of the log is read at a time."""
LOOSE_BYTES = 32 << 20
"""The files of a database are sorted into one once they have grown by their own size and this."""
PART_HASHES = 3_000_000
"""So many are sorted at a time, some 100 MB."""
STATE = re.compile(r"state-(\d+)")
Found = dict[int, list[bytes]]
"""Hashes by the database whose files they go to."""


@dataclass(slots=True)
class _State:
    """What is known, and where it is; databases are keys of JSON objects, and so strings."""

    offset: int | None = None  # of the log's byte before the first one that is not in
    db: int = 0  # the stream's database there
    begins: bool = False  # the log is to begin at `offset`: one that begins elsewhere is the one before
    gens: list[int] = field(default_factory=list)  # snapshots, whole or void
    streamed: list[int] = field(default_factory=list)  # snapshots behind which a stream has begun
    libraries: list[str] = field(default_factory=list)  # names of function libraries that were brought
    files: dict[str, list[tuple[str, int]]] = field(default_factory=dict)  # names, and bytes that count
    sorted: dict[str, int] = field(default_factory=dict)  # bytes when they were last sorted
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


class Known:
    """Of one node. Usable by several threads.

    Args:
        directory: in the spool; made by `create`.
        uid: of the task's run.
        epoch: of the owner, higher than any former owner's.

    What cannot be written is forgotten with all the rest: the log must be able to shrink where the disk is full.
    """

    def __init__(self, directory: Path, uid: str, epoch: int) -> None:
        self._directory, self.seed, self._epoch = directory, uid.encode(), epoch
        self._lock = threading.RLock()
        self._number = 0  # of our files
        self._own: set[str] = set()  # files to which nobody else appends
        self._old: list[str] = []  # files of ours that are to go with the next state
        self._state: _State | None = None
        with self._or_forget():
            self._state = self._inherit()

    # --- whether it is all there

    @property
    def whole(self) -> bool:
        """Whether nothing is missing: it began with the task, and has lost nothing since."""
        return self._state is not None

    @property
    def gens(self) -> Collection[int]:
        """Snapshots whose keys are in, or were never on the target without being removed again."""
        with self._lock:
            return set(self._state.gens) if self._state else ()

    @property
    def streamed(self) -> Collection[int]:
        """Snapshots behind which a stream has begun."""
        with self._lock:
            return set(self._state.streamed) if self._state else ()

    @property
    def libraries(self) -> Collection[str]:
        """Names of function libraries that a snapshot or the log has brought."""
        with self._lock:
            return set(self._state.libraries) if self._state else ()

    @property
    def offset(self) -> int | None:
        """Up to where the log has been taken in."""
        with self._lock:
            return self._state.offset if self._state else None

    def create(self) -> None:
        """Nothing of this node is on the target yet."""
        with self._lock:
            if self._state is None:
                with self._or_forget():
                    self._directory.mkdir(parents=True, exist_ok=True)
                    self._write(_State())

    def forget(self) -> None:
        """Something is missing: nobody can say any more which keys are ours."""
        with self._lock:
            self._state = None
            with suppress(OSError, KeyferryError):
                for epoch, path in self._states():
                    if epoch <= self._epoch:
                        path.unlink()
                make_durable(self._directory)

    # --- what comes in

    def begin(self, offset: int, db: int) -> None:
        """A snapshot was received; its log will begin at `offset`, in the stream's database `db`."""
        with self._lock, self._or_forget():
            if self._state is not None:
                state = deepcopy(self._state)
                state.offset, state.db, state.begins = offset, db, True
                self._write(state)

    def go_on(self, offset: int, db: int) -> None:
        """The log will begin anew in mid-stream: what lies between is missing, what comes twice does no harm."""
        with self._lock:
            if self._state is None:
                return
            if self._state.offset is None or offset > self._state.offset:
                logger.warning("the stream was not seen between %s and %d", self._state.offset, offset)
                self.forget()
            else:
                self.begin(offset, db)

    def stream(self, gen: int, libraries: Iterable[str]) -> None:
        """A stream is about to begin behind a snapshot: from then on marks on the target say nothing about it.

        Args:
            libraries: names of the snapshot's function libraries.
        """
        with self._lock, self._or_forget():
            if self._state is not None and gen not in self._state.streamed:
                state = deepcopy(self._state)
                state.streamed.append(gen)
                state.libraries = sorted({*state.libraries, *libraries})
                self._write(state)

    def fold(self, log: Log, stop: int | None = None) -> None:
        """Take in what the log names; a command that is not whole is left.

        Args:
            stop: up to an offset, which is on the target: the log is about to lose that, and it must be readable.
                None: all that is there and readable, before the log begins anew; `go_on` says what it lacks.
        """
        with self._lock, self._or_forget():
            state = self._state
            if state is None or state.offset is None or log.start is None:
                return
            if state.begins and log.start != state.offset:
                return
            if state.offset < log.start:
                raise Malformed(f"the log begins at {log.start}", state.offset)
            if state.offset >= min(log.end or 0, 1 << 62 if stop is None else stop):
                return
            for found, after in self._read(log, deepcopy(state), stop):
                self._append(found, after)
                self._write(after)

    def _read(self, log: Log, state: _State, stop: int | None) -> Iterator[tuple[Found, _State]]:
        """What the log names, some at a time, and the state behind that."""
        assert state.offset is not None
        cursor, scanner = Cursor(log, state.offset, ours=False), Scanner(TABLE)
        data, want, more = b"", STEP_BYTES, True
        try:
            while more:
                parts, size = [data], len(data)
                while more and size < want:
                    try:
                        block = cursor.read()
                    except KeyferryError:
                        if stop is not None:
                            raise
                        block = None
                    more = block is not None and (stop is None or block.end <= stop)
                    if block is not None and more:
                        parts.append(block.data)
                        size += len(block.data)
                data = b"".join(parts)
                found: Found = {}
                done = self._scan(scanner, data, state, found)
                data = data[done:]
                if done:
                    state.offset += done
                    state.begins = False
                    yield found, state
                    state = deepcopy(state)
                want = max(STEP_BYTES, 2 * len(data))
        finally:
            cursor.close()

    def _scan(self, scanner: Scanner, data: bytes, state: _State, found: Found) -> int:
        pos = 0
        while True:
            end, count, why, argv, after, kind = scanner.scan(data, pos, 1 << 62, 1 << 62)
            if count:
                found.setdefault(state.home(state.db), []).append(command_hashes(data, pos, end, self.seed))
            if why == MORE:
                return int(end)
            if kind == "select":
                state.db = int(argv[1])
            elif kind == "swap":
                goes, (one, two) = state.home(int(argv[2])), (int(argv[1]), int(argv[2]))
                state.swap(one, two)
                if state.home(two) != goes:
                    found.setdefault(state.home(two), []).extend(found.pop(goes, []))
            elif kind == "function":
                name = library(argv[-1]) if argv[1].upper() == b"LOAD" else None
                state.libraries = sorted({*state.libraries, *([name] if name else [])})
            elif kind is not None:
                for db, key in named(kind, argv, state.db):
                    found.setdefault(state.home(db), []).append(key_hash(key, self.seed))
            pos = after

    def add(self, gen: int, chunks: Iterable[tuple[int, Path, int]]) -> None:
        """Take in a snapshot that was loaded, before its files go; earlier ones were swept.

        Args:
            chunks: source database, file, and number of keys of each.
        """
        with self._lock, self._or_forget():
            if self._state is None or gen in self._state.gens:
                return
            state = deepcopy(self._state)
            for db, path, keys in chunks:
                hashes = key_hashes(path, self.seed)
                if len(hashes) != keys * HASH_BYTES:
                    raise Malformed(f"{path.name} holds other keys than were loaded")
                self._append({state.home(db): [hashes]}, state)
            state.gens = [*range(1, gen + 1)]
            self._write(state)

    # --- what is in

    def databases(self) -> list[int]:
        """Source databases of which something is known."""
        with self._lock:
            return sorted({int(db) for db in (*self._state.files, *self._state.shared)}) if self._state else []

    def together(self, db: int) -> set[int]:
        """A source database, and all whose keys may have come there by SWAPDB."""
        with self._lock:
            state = self._state or _State()
            return {db} | {int(other) for other, home in state.shared.items() if home == state.home(db)}

    def count(self, db: int) -> int:
        """At most so many hashes, some of them perhaps of a database that it was swapped with."""
        with self._lock:
            return self._state.size(db) // HASH_BYTES if self._state else 0

    def part(self, db: int, bits: int, part: int) -> bytes:
        """Hashes of one part, in no order, some more than once. Raises ControlError when they cannot be read."""
        with self._lock:
            try:
                return b"".join(self._parts(self._state, db, bits, part)) if self._state else b""
            except OSError as e:
                raise disk_error(e) from e

    def _parts(self, state: _State, db: int, bits: int, part: int) -> Iterator[bytes]:
        for name, size in state.files.get(str(state.home(db)), []):
            left = size
            with (self._directory / name).open("rb") as file:
                while left and (data := file.read(min(left, STEP_BYTES))):
                    yield of_part(data, bits, part)
                    left -= len(data)

    # --- files

    @contextmanager
    def _or_forget(self) -> Iterator[None]:
        try:
            yield
        except (KeyferryError, OSError, ValueError, IndexError, TypeError, KeyError) as error:
            logger.warning("which keys are on the target is no longer known: %s", error)
            self.forget()

    def _append(self, found: Found, state: _State) -> None:
        """Put hashes down; `state` says so, and is to be written."""
        for db, hashes in found.items():
            data = distinct(b"".join(hashes))
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

    def _sort(self, db: int, state: _State) -> None:
        """Into one file; the others go with the next state."""
        name, size, bits = self._new(db), 0, bits_of(state.size(db) // HASH_BYTES)
        for part in range(1 << bits):
            data = distinct(b"".join(self._parts(state, db, bits, part)))
            self._put(name, data, size)
            size += len(data)
        self._old += [old for old, _ in state.files[str(db)]]
        state.files[str(db)], state.sorted[str(db)] = [(name, size)], size

    def _new(self, db: int) -> str:
        self._number += 1
        name = f"{db}-{self._epoch}-{self._number}"
        self._own.add(name)
        return name

    def _put(self, name: str, data: bytes, size: int) -> None:
        """Write behind the first `size` bytes of a file, durably."""
        path = self._directory / name
        fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            os.ftruncate(fd, size)
            os.lseek(fd, size, os.SEEK_SET)
            write_all(fd, [data], size)
        finally:
            os.close(fd)
        make_durable(path)

    def _write(self, state: _State) -> None:
        """From now on this holds."""
        new, path = self._directory / f"new-{self._epoch}", self._directory / f"state-{self._epoch}"
        new.write_text(json.dumps(asdict(state)))
        make_durable(new)
        new.replace(path)
        make_durable(path)
        self._state = state
        for name in self._old:
            (self._directory / name).unlink(missing_ok=True)
        self._old = []

    def _states(self) -> list[tuple[int, Path]]:
        """Epochs and files, the latest last."""
        if not self._directory.is_dir():
            return []
        return sorted((int(m[1]), p) for p in self._directory.iterdir() if (m := STATE.fullmatch(p.name)))

    def _inherit(self) -> _State | None:
        """What the last owner has left, under names of ours. None: nothing, or not all of it, or a later owner's."""
        states = self._states()
        if not states or states[-1][0] > self._epoch:
            return None
        values = json.loads(states[-1][1].read_text())
        values["files"] = {db: [(name, size) for name, size in files] for db, files in values["files"].items()}
        state = _State(**values)
        for db, files in state.files.items():
            for at, (name, size) in enumerate(files):
                if (self._directory / name).stat().st_size < size:
                    raise Malformed(f"{name} has lost its end")
                new = f"{db}-{self._epoch}-{self._next()}"
                (self._directory / new).unlink(missing_ok=True)
                os.link(self._directory / name, self._directory / new)
                files[at] = (new, size)
        self._write(state)
        self._clear(state)
        return state

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _clear(self, state: _State) -> None:
        """Remove what former owners have left."""
        mine = {name for files in state.files.values() for name, _ in files} | {f"state-{self._epoch}"}
        for path in self._directory.iterdir():
            if path.name not in mine:
                path.unlink(missing_ok=True)
