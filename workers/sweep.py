"""After a snapshot that broke off: keys it had loaded and the next snapshot no longer has are removed from the target.

Both snapshots' chunk files are compared by 128-bit hashes of the keys, one partition of them at a time.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from workers.codec import RestoreEncoder
from workers.codec.resp_cy import encode
from workers.full import FencedBatches
from workers.spool.chunks import RECORD, TO_THE_END
from workers.target.link import TargetLink

if TYPE_CHECKING:
    from workers.translate import Scope

PARTITIONS = 16
BATCH = 200


def keys_of(path: Path) -> Iterator[bytes]:
    """Keys of a chunk file. Only whole records count: a broken-off file may end in the middle of one."""
    size = path.stat().st_size
    if size < RECORD.size:
        return
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages,
        memoryview(pages) as data,
    ):
        _, key_size, value_size = RECORD.unpack_from(data, 0)
        if value_size == TO_THE_END:
            yield bytes(data[RECORD.size : RECORD.size + key_size])
            return
        yield from (key for key, _ in RestoreEncoder(0).iter_keys(data))


def _hash(db: int, key: bytes) -> bytes:
    return blake2b(b"%d:%b" % (db, key), digest_size=16).digest()


def sweep(
    link: TargetLink, chunks: list[tuple[int, int, Path]], gen: int, home: int, uid: str, node: int, scope: Scope
) -> int:
    """Remove what snapshots before `gen` may have loaded and `gen` has not; fenced like a loader of `gen`.

    Args:
        link: to the target, in `home`.
        chunks: (gen, source database, file) of every chunk of every snapshot so far.
    Returns how many keys were asked to be removed.
    """
    removed = 0
    for partition in range(PARTITIONS):
        kept: set[bytes] = set()
        for _, db, path in (c for c in chunks if c[0] == gen):
            kept.update(h for h in (_hash(db, k) for k in keys_of(path)) if h[0] % PARTITIONS == partition)
        for _, db, path in (c for c in chunks if c[0] < gen and c[2].exists()):
            target = scope.target(db)
            if target is None:
                continue
            batches = FencedBatches(link, uid, node, gen, home, target)
            gone: list[bytes] = []
            for key in keys_of(path):
                h = _hash(db, key)
                if h[0] % PARTITIONS == partition and h not in kept:
                    kept.add(h)
                    gone.append(key)
                    removed += 1
                if len(gone) >= BATCH:
                    batches.send(encode([b"UNLINK", *gone]), 1)
                    gone = []
            if gone:
                batches.send(encode([b"UNLINK", *gone]), 1)
            batches.finish()
    return removed
