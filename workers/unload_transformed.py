"""Removing what a snapshot that broke off has loaded through a transform, and the next one does not have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from workers.codec.digest_cy import among
from workers.codec.resp_cy import encode
from workers.full import BATCH_KEYS, FencedBatches
from workers.spool.chunks import keys_of
from workers.target.databases import Databases
from workers.target.windows import Window
from workers.transform import Transformer


class Unloading:
    """What the script makes of a DEL is sent for each such key of one database of the target.

    Args:
        batches: fenced, of that database.
        files: source database and file of each chunk that was loaded, at least in part.
        seed: of the hashes.
    """

    def __init__(
        self, batches: FencedBatches, transformer: Transformer, files: list[tuple[int, Path]], seed: bytes
    ) -> None:
        self.batches, self._transformer, self._files, self._seed = batches, transformer, files, seed
        self._databases = Databases(batches.link, batches.home)

    def remove(self, gone: bytes) -> int:
        """Remove keys by their hashes, in order; how many there were."""
        removed = 0
        for db, keys in self._keys() if gone else ():
            found = among(keys, gone, self._seed)
            removed += len(found)
            window = Window(first=self.batches.db, selected=self.batches.db, databases={self.batches.db})
            for key in found:
                self._transformer.remove(db, key, 0, window)
            if window.commands:
                self._send(window)
        self.batches.finish()
        return removed

    def _keys(self) -> Iterator[tuple[int, list[bytes]]]:
        for db, path in self._files:
            keys = iter(keys_of(path))
            while some := list(islice(keys, BATCH_KEYS)):
                yield db, some

    def _send(self, window: Window) -> None:
        if self._databases.unproven(window):
            self.batches.finish()
            self._databases.prove(window.databases)
        back = encode([b"SELECT", self.batches.db])
        self.batches.send(bytes(window.body) + back, window.commands + 1)
