"""After a snapshot that broke off: keys it had loaded and the next snapshot no longer has are removed from the target.

Both snapshots' chunk files are compared by 128-bit hashes of the keys, as many of them at a time as memory holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from sync_tasks.errors import CannotContinue, Side
from sync_tasks.names import begun, marks_key
from sync_tasks.views import ChunkView
from workers.codec.resp_cy import encode
from workers.full import FencedBatches
from workers.spool.chunks import count_keys, keys_of
from workers.spool.damage import damaged
from workers.target.link import TargetLink

if TYPE_CHECKING:
    from workers.scope import Scope

MOST_HASHES = 3_000_000
"""Of one pass over the files, some 60 MB."""
HASH_BYTES = 16
BATCH = 200
SWEPT = b"swept"
"""Field of a load's marks, beside those of its chunks: what it does not have any more is removed."""


class Hashes:
    """A set of hashes that takes little more than their own bytes; Python's takes seven times that."""

    def __init__(self) -> None:
        self._buckets = [bytearray() for _ in range(1 << 16)]

    def add(self, value: bytes) -> None:
        """Put a hash in; not one that is in already."""
        self._buckets[value[0] << 8 | value[1]] += value

    def __contains__(self, value: bytes) -> bool:
        bucket = self._buckets[value[0] << 8 | value[1]]
        at = bucket.find(value)
        while at % HASH_BYTES and at > 0:
            at = bucket.find(value, at + 1)
        return at >= 0


def _part(chunk: ChunkView, number: int, passes: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys of a chunk file that belong to one pass, and their hashes."""
    for key in keys_of(Path(chunk.path)):
        if crc32(key) % passes == number:
            yield key, blake2b(b"%d:%b" % (chunk.db, key), digest_size=HASH_BYTES).digest()


def _check(chunk: ChunkView) -> None:
    """A key that a torn file has lost would seem to be gone from the source."""
    path = Path(chunk.path)
    keys = count_keys(path) if path.exists() else 0
    if keys != chunk.keys:
        raise damaged(path, f"holds {keys} keys, not {chunk.keys}")


def _has_begun(link: TargetLink, uid: str, node: int, chunk: ChunkView) -> bool:
    """Whether something of it may be on the target."""
    return bool(link.ask(b"HEXISTS", marks_key(uid, node, chunk.gen), begun(str(chunk.seq))))


def _is_whole(chunk: ChunkView) -> bool:
    """Whether its file is still what it was loaded from."""
    path = Path(chunk.path)
    return path.exists() and path.stat().st_size == chunk.bytes and count_keys(path) == chunk.keys


def sweep(
    link: TargetLink,
    chunks: list[ChunkView],
    gen: int,
    home: int,
    uid: str,
    node: int,
    scope: Scope,
    rightful: Callable[[], object] = lambda: None,
    check: Callable[[], None] = lambda: None,
) -> int:
    """Remove what snapshots before `gen` may have loaded and `gen` has not; fenced like a loader of `gen`.

    Args:
        link: to the target, in `home`.
        chunks: of every snapshot so far.
        rightful, check: as `FencedBatches` takes them.
    Returns how many keys were asked to be removed. Raises ControlError if a file of `gen` is not what was recorded.
    """
    passes = 1 + sum(c.keys for c in chunks) // MOST_HASHES
    present = [c for c in chunks if c.gen == gen]
    former = [(c, scope.target(c.db)) for c in chunks if c.gen < gen and _has_begun(link, uid, node, c)]
    lost = [c for c, _ in former if not _is_whole(c)]
    if lost:
        raise CannotContinue(
            f"{len(lost)} chunks of a snapshot that broke off were loaded, at least in part, and cannot be"
            " read any more: keys that the source has deleted since cannot be told",
            side=Side.CONTROL,
            hint="empty the target and restart the task; let hosts share their spool (KEYFERRY_SPOOL_SHARED)",
        )
    for chunk in present:
        _check(chunk)
    removed = 0
    for number in range(passes):
        known = Hashes()
        for chunk in present:
            for _, value in _part(chunk, number, passes):
                known.add(value)
        for chunk, db in former:
            if db is None:
                continue
            batches = FencedBatches(link, uid, node, gen, "sweep", home, db, rightful, check)
            removed += _remove(batches, chunk, number, passes, known)
            batches.end()
    mark = encode([b"HSET", marks_key(uid, node, gen), SWEPT, b"1"])
    FencedBatches(link, uid, node, gen, "sweep", home, home, rightful, check).end(mark, 1)
    return removed


def _remove(batches: FencedBatches, chunk: ChunkView, number: int, passes: int, known: Hashes) -> int:
    """Unlink what is not known; it then is."""
    removed, gone = 0, []
    for key, value in _part(chunk, number, passes):
        if value not in known:
            known.add(value)
            gone.append(key)
        if len(gone) == BATCH:
            batches.send(encode([b"UNLINK", *gone]), 1)
            removed, gone = removed + len(gone), []
    if gone:
        batches.send(encode([b"UNLINK", *gone]), 1)
    return removed + len(gone)
