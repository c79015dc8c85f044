"""Which keys of a node may be on the target though no chunk file says so any more: those of the snapshots that were
loaded, and all that the log has named since. A full sync in place removes those which its snapshot no longer has.

What the log is about to forget is taken in first, so both together are whole. A FLUSHALL takes nothing out: a target
that falls back to before it has the keys again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

from sync_tasks.errors import KeyferryError, Malformed
from sync_tasks.views import STORED
from workers.codec.digest_cy import HASH_BYTES, command_hashes, key_hash
from workers.codec.resp_cy import MORE, Scanner
from workers.named import TABLE, library, named
from workers.spool.chunks import key_hashes
from workers.spool.files import disk_error
from workers.spool.hash_files import Found, HashFiles, State
from workers.spool.log import Cursor, Log
from workers.spool.long import HELD_BYTES, Long, begin
from workers.spool.sealing import UNKNOWN_KEY
from workers.spool.stored import Stored, no_store
from workers.spool.sums import still_intact

logger = logging.getLogger(__name__)

STEP_BYTES = 4 << 20
"""So much of the log is read at a time."""


class Known:
    """Of one node. Usable by several threads.

    Args:
        directory: in the spool; made by `create`.
        uid: of the task's run.
        epoch: of the owner, higher than any former owner's.
        stored: where chunks are that are not here; None: nowhere.

    What cannot be written is forgotten with all the rest: the log must be able to shrink where the disk is full.
    """

    def __init__(self, directory: Path, uid: str, epoch: int, stored: Stored | None = None) -> None:
        self.seed, self._stored = uid.encode(), stored
        self._lock, self._files = threading.RLock(), HashFiles(directory, epoch)
        self._state: State | None = None
        self._swaps = deque[int](maxlen=1000)  # stream offsets behind them
        with self._or_forget():
            self._state = self._files.inherit()

    # --- whether it is all there

    @property
    def whole(self) -> bool:
        """Whether nothing is missing: it began with the task, or was made anew, and has lost nothing since."""
        with self._lock:
            return self._state is not None and not self._state.partial

    def covers(self, gen: int, offset: int) -> bool:
        """Whether nothing is missing for a target that stands at an offset behind a snapshot."""
        with self._lock:
            return self.whole and self._state is not None and [gen, offset] >= self._state.base

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

    def swapped(self, start: int, end: int) -> bool:
        """Whether the log, which was taken in since, swaps databases between two offsets; with very many: perhaps."""
        with self._lock:
            forgotten = len(self._swaps) == self._swaps.maxlen and self._swaps[0] > start
            return forgotten or any(start < at <= end for at in self._swaps)

    def create(self) -> None:
        """Nothing of this node is on the target yet."""
        with self._lock:
            if self._state is None:
                with self._or_forget():
                    self._keep(State())

    def forget(self) -> None:
        """Something is missing: nobody can say any more which keys are ours."""
        with self._lock:
            self._state = None
            self._files.remove()

    def own_up(self, offset: int, log: Log) -> None:
        """Forget all, if the target has come further, to `offset`, than the list and the log behind it: the log has
        lost its beginning, or its end and was begun anew for the applier to doubt keys."""
        known, start, end = self.offset or 0, log.start, log.end
        covered = end if start is not None and end is not None and start <= known <= end else known
        if offset > covered:
            self.forget()

    # --- what comes in

    def begin(self, offset: int, db: int) -> None:
        """A snapshot was received; its log will begin at `offset`, in the stream's database `db`."""
        with self._lock, self._or_forget():
            if self._state is not None:
                state = deepcopy(self._state)
                state.offset, state.db, state.begins = offset, db, True
                self._keep(state)

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
                self._keep(state)

    # --- making it anew

    def renew(self, offset: int, db: int, gen: int) -> None:
        """Nothing is known but that a stream behind snapshot `gen` is on the target up to `offset`.

        From here on the log is taken in, beginning in the stream's database `db`; what was there before is for `put`.
        """
        with self._lock, self._or_forget():
            if self._state is None:
                gens = [*range(1, gen + 1)]
                self._keep(State(offset, db, gens=gens, streamed=gens, partial=True))

    def put(self, hashes: Mapping[int, bytes | bytearray]) -> None:
        """Hashes of keys that the source has, by its databases."""
        with self._lock, self._or_forget():
            if self._state is not None and hashes:
                state = deepcopy(self._state)
                found: Found = {}
                for db, some in hashes.items():
                    found.setdefault(state.home(db), []).append(bytes(some))
                self._files.append(found, state)
                self._keep(state)

    def complete(self, libraries: Iterable[str], end: int) -> None:
        """All was put that the source had at offset `end`, to which the target has come; with these function libraries.

        What was deleted before is not in: it is gone from the target, too, unless that falls back.
        """
        with self._lock, self._or_forget():
            if self._state is not None:
                state = deepcopy(self._state)
                state.libraries = sorted({*state.libraries, *libraries})
                state.partial, state.base = False, [max(state.gens, default=0), end]
                self._keep(state)

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
            state = deepcopy(state)
            for found in self._read(log, state, stop):
                self._files.append(found, state)
                if self._files.superseded:  # a long log would else fill the disk with them
                    self._keep(deepcopy(state))
            self._keep(state)

    def _read(self, log: Log, state: State, stop: int | None) -> Iterator[Found]:
        """What the log names, some at a time; the state is the one behind that."""
        assert state.offset is not None
        cursor, scanner = Cursor(log, state.offset, ours=False), Scanner(TABLE)
        data, want, more = b"", STEP_BYTES, True
        long: Long | None = None
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
                if long is not None:
                    rest = long.feed(data)
                    data = rest or b""
                    if rest is None:
                        continue
                    state.offset += long.size
                    state.begins = False
                    yield {state.home(state.db): [key_hash(key, self.seed) for key in long.argv[1:2]]}
                    long = None
                found: Found = {}
                done = self._scan(scanner, data, state, found)
                data = data[done:]
                if done:
                    state.offset += done
                    state.begins = False
                    yield found
                if len(data) >= HELD_BYTES and (long := begin(data, state.offset, _names_others)):
                    data = b""
                want = max(STEP_BYTES, 2 * len(data))
        finally:
            cursor.close()

    def _scan(self, scanner: Scanner, data: bytes, state: State, found: Found) -> int:
        pos = 0
        while True:
            end, count, why, argv, after, kind = scanner.scan(data, pos, 1 << 62, 1 << 62)
            if count:
                found.setdefault(state.home(state.db), []).append(command_hashes(data, pos, end, count, self.seed))
            if why == MORE:
                return int(end)
            if kind == "select":
                state.db = int(argv[1])
            elif kind == "swap":
                self._swaps.append((state.offset or 0) + after)
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

    def file(self, path: str | Path) -> Path:
        """A file that tells the keys of a chunk: where its row says, or one made of what the object store has; it may
        be missing. Raises StoreAway, SpoolFull, ControlError."""
        if not str(path).startswith(STORED):
            return Path(path)
        if self._stored is None:
            raise no_store(str(path))
        return self._stored.keys(str(path))

    def add(self, gen: int, chunks: Iterable[tuple[int, str | Path, int]]) -> None:
        """Take in a snapshot that was loaded, before its files go; earlier ones were swept. Raises as `file`.

        Args:
            chunks: source database, what the row names, and number of keys of each.
        """
        with self._lock:
            if self._state is None or gen in self._state.gens:
                return
        files = [(db, self.file(path), keys) for db, path, keys in chunks]
        with self._lock, self._or_forget():
            if self._state is None or gen in self._state.gens:
                return
            state = deepcopy(self._state)
            for db, path, keys in files:
                hashes = key_hashes(path, self.seed) if still_intact(path) else b""
                if len(hashes) != keys * HASH_BYTES:
                    raise Malformed(f"{path.name} holds other keys than were loaded")
                self._files.append({state.home(db): [hashes]}, state)
            state.gens = [*range(1, gen + 1)]
            self._keep(state)

    # --- what is in

    def databases(self) -> list[int]:
        """Source databases of which something is known."""
        with self._lock:
            return sorted({int(db) for db in (*self._state.files, *self._state.shared)}) if self._state else []

    def together(self, db: int) -> set[int]:
        """A source database, and all whose keys may have come there by SWAPDB."""
        with self._lock:
            state = self._state or State()
            return {db} | {int(other) for other, home in state.shared.items() if home == state.home(db)}

    def count(self, db: int) -> int:
        """At most so many hashes, some of them perhaps of a database that it was swapped with."""
        with self._lock:
            return self._state.size(db) // HASH_BYTES if self._state else 0

    def part(self, db: int, bits: int, part: int) -> bytes:
        """Hashes of one part, in no order, some more than once. Raises ControlError when they cannot be read."""
        with self._lock:
            try:
                return b"".join(self._files.parts(self._state, db, bits, part)) if self._state else b""
            except OSError as e:
                raise disk_error(e) from e

    # --- what can be lost

    def _keep(self, state: State) -> None:
        self._files.write(state)
        self._state = state

    @contextmanager
    def _or_forget(self) -> Iterator[None]:
        try:
            yield
        except (KeyferryError, OSError, ValueError, IndexError, TypeError, KeyError) as error:
            if isinstance(error, KeyferryError) and error.code == UNKNOWN_KEY:
                raise  # with the right one it is there
            logger.warning("which keys are on the target is no longer known: %s", error)
            self.forget()


def _names_others(name: bytes, _: int) -> bool:
    """Whether a command may bring other keys into being than its first argument."""
    return name in TABLE
