"""Keys that earlier snapshots, or the log behind them, have brought and the present one has not are removed.

What may be there are the chunks that a loader of a snapshot which broke off has begun, and what is `Known`; keys that
were the target's own stay. All of it are 128-bit hashes, as many at a time as memory holds; the target is then walked
for those that are gone, if there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sync_tasks.errors import CannotContinue, Side
from sync_tasks.names import KEY_PREFIX, begun, marks_key
from sync_tasks.views import ChunkView
from workers.codec.digest_cy import HASH_BYTES, among, distinct, without
from workers.codec.resp_cy import encode
from workers.full import FencedBatches
from workers.spool.chunks import count_keys, key_hashes
from workers.spool.damage import damaged
from workers.spool.hash_files import bits_of
from workers.spool.known import Known
from workers.spool.sealing import size_of
from workers.spool.sums import is_intact, verify
from workers.target.link import TargetLink
from workers.transform import Transformer
from workers.unload_transformed import Unloading

if TYPE_CHECKING:
    from workers.scope import Scope

MOST_GONE = 4_000_000
"""So many keys that are gone are looked for in one walk over the target, some 60 MB."""
BATCH = 200
SCANNED = 1000
SWEPT = b"swept"
"""Field of a load's marks, beside those of its chunks: what it does not have any more is removed."""


def _check(chunk: ChunkView, known: Known) -> None:
    """A key that a torn file has lost, or another byte has made another one, would seem to be gone from the source."""
    path = known.file(chunk.path)
    if path.exists():
        verify(path)
    keys = count_keys(path) if path.exists() else 0
    if keys != chunk.keys:
        raise damaged(path, f"holds {keys} keys, not {chunk.keys}")


def _has_begun(link: TargetLink, uid: str, node: int, chunk: ChunkView) -> bool:
    """Whether something of it may be on the target."""
    return bool(link.ask(b"HEXISTS", marks_key(uid, node, chunk.gen), begun(str(chunk.seq))))


def _is_whole(chunk: ChunkView, known: Known) -> bool:
    """Whether its file is still what it was loaded from."""
    path = known.file(chunk.path)
    if not path.exists() or not (chunk.is_stored or size_of(path) == chunk.bytes):
        return False
    return is_intact(path) and count_keys(path) == chunk.keys


def sweep(
    link: TargetLink,
    chunks: list[ChunkView],
    gen: int,
    home: int,
    uid: str,
    node: int,
    scope: Scope,
    known: Known,
    rightful: Callable[[], object] = lambda: None,
    check: Callable[[], None] = lambda: None,
    transformer: Transformer | None = None,
) -> int:
    """Remove what snapshots before `gen` and their log may have brought and `gen` has not; fenced like a loader of it.

    Args:
        link: to the target, in `home`.
        chunks: of every snapshot so far.
        known: of the snapshots whose files are gone, and of the log.
        rightful, check: as `FencedBatches` takes them.
        transformer: of a task that has a transform, whose stream has never begun: it says what becomes of a DEL.
    Returns how many keys were removed. Raises ControlError if a file of `gen` is not what was recorded, CannotContinue
    if one of those before it cannot be read any more.
    """
    present = [c for c in chunks if c.gen == gen]
    before = [c for c in chunks if c.gen < gen and c.gen not in known.gens]
    # A stream may have flushed the marks away, and what was loaded to another lane may have moved here since, with its
    # slot. Under a transform chunks are no lane's: each lane has marks of all of them, and no slot moves.
    beside = -1 if scope.lane is None or transformer is not None else scope.lane.number
    former = [
        c for c in before
        if c.gen in known.streamed or (beside >= 0 and c.shard != beside) or _has_begun(link, uid, node, c)
    ]  # fmt: skip
    lost = [c for c in former if not _is_whole(c, known)]
    if lost:
        raise CannotContinue(
            f"{len(lost)} chunks of an earlier snapshot were loaded, at least in part, and cannot be"
            " read any more: keys that the source has deleted since cannot be told",
            side=Side.CONTROL,
            hint="empty the target and restart the task; let hosts share their spool (KEYFERRY_SPOOL_SHARED)",
        )
    for chunk in present:
        _check(chunk, known)
    removed = 0
    sources = sorted({db for c in former for db in known.together(c.db)} | set(known.databases()))
    for db in sorted({to for source in sources if (to := scope.target(source)) is not None}):
        mine = [source for source in sources if scope.target(source) == db]
        batches = FencedBatches(link, uid, node, gen, "sweep", home, db, rightful, check)
        walk: _Walk | Unloading
        if transformer is not None:
            files = [(c.db, known.file(c.path)) for c in former if scope.target(c.db) == db]
            walk = Unloading(batches, transformer, files, known.seed)
        else:
            walk = _Walk(link, db, home, known.seed, batches, check, scope)
        gone = bytearray()
        for found in _gone(present, former, known, mine, scope, db):
            gone += found
            if len(gone) > MOST_GONE * HASH_BYTES:
                removed += walk.remove(bytes(gone))
                gone.clear()
        removed += walk.remove(bytes(gone))
        walk.batches.end()
    mark = encode([b"HSET", marks_key(uid, node, gen), SWEPT, b"1"])
    FencedBatches(link, uid, node, gen, "sweep", home, home, rightful, check).end(mark, 1)
    return removed


def _gone(
    present: list[ChunkView], former: list[ChunkView], known: Known, sources: list[int], scope: Scope, db: int
) -> Iterator[bytes]:
    """Hashes of what is no longer there in database `db` of the target, in order, a part at a time."""
    there = [c for c in present if scope.target(c.db) == db]
    was = [c for c in former if not known.together(c.db).isdisjoint(sources)]
    bits = bits_of(sum(c.keys for c in [*there, *was]) + sum(map(known.count, sources)))
    for part in range(1 << bits):

        def hashes(chunks: list[ChunkView], part: int = part) -> list[bytes]:
            return [key_hashes(known.file(c.path), known.seed, bits, part) for c in chunks]

        have = distinct(b"".join(hashes(there)))
        had = distinct(b"".join([*hashes(was), *(known.part(source, bits, part) for source in sources)]))
        yield without(had, have)


class _Walk:
    """Over one database of the target."""

    def __init__(
        self, link: TargetLink, db: int, home: int, seed: bytes, batches: FencedBatches, check: Callable[[], None],
        scope: Scope,
    ) -> None:  # fmt: skip
        self._scope = scope
        self._link, self._db, self._home, self._seed = link, db, home, seed
        self._check, self.batches = check, batches

    def remove(self, gone: bytes) -> int:
        """Remove keys by their hashes, in order; how many there were."""
        removed, cursor = 0, b"0"
        while gone:
            self._check()
            scan: list[list[bytes | int]] = [
                [b"SELECT", self._db], [b"SCAN", cursor, b"COUNT", SCANNED], [b"SELECT", self._home],
            ]  # fmt: skip
            cursor, keys = self._link.ask_all(scan)[1]
            some = [key for key in keys if not key.startswith(KEY_PREFIX) and self._scope.ours(self._db, key)]
            found = among(some, gone, self._seed)
            for at in range(0, len(found), BATCH):
                some = found[at : at + BATCH]
                commands = [[b"UNLINK", key] for key in some] if self._link.scripted else [[b"UNLINK", *some]]
                self.batches.send(b"".join(map(encode, commands)), len(commands))
            self.batches.finish()
            removed += len(found)
            if cursor == b"0":
                break
        return removed
