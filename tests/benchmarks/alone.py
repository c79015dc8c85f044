"""What is measured of us alone: cutting a snapshot into chunks in one thread, and CPU when there is nothing to do."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.ours import Ours
from tests.servers import Server
from workers.snapshot import SnapshotReader

PIECE_BYTES = 256 << 10
MB = 1e6
IDLE_S = 20.0


class _Link:
    def end_mark(self, rest: bytes) -> None:
        assert len(rest) <= PIECE_BYTES


def framing(source: Server, place: Path) -> str:
    """What the source has, saved, and cut into chunk files, as a receiver does with what it reads from the link."""
    source.client(socket_timeout=600).save()
    snapshot = source.dir / "dump.rdb"

    def parts() -> Iterator[bytes]:
        with snapshot.open("rb") as file:
            while data := file.read(PIECE_BYTES):
                yield data

    ignore: Any = lambda *_: False  # noqa: E731
    with tempfile.TemporaryDirectory(dir=place) as directory:
        reader = SnapshotReader(
            Path(directory), closed=ignore, progress=ignore, stopping=ignore, waiting=lambda _: 0.1
        )
        began = time.process_time()
        reader.read(_Link(), parts())  # type: ignore[arg-type]
        took = time.process_time() - began
    size = snapshot.stat().st_size / MB
    snapshot.unlink()
    return f"framing and chunking alone     {size / took:7.0f} MB/s in one thread, {size:.0f} MB (must 400, aim 1000)"


def idle(ours: Ours) -> str:
    """CPU of all our processes once in sync, while nobody writes."""
    ours.follow()
    ours.in_sync()
    time.sleep(5)
    ours.usage.mark()
    time.sleep(IDLE_S)
    ours.leave()
    return f"idle, in sync                  {ours.usage.cpu_s / IDLE_S:.2%} of a core (must 2 %, aim 0.5 %)"
