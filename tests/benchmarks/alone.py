"""What is measured of us alone: cutting a snapshot into chunks in one thread, and CPU when there is nothing to do."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sync_tasks.keyfilter import FilterSpec
from sync_tasks.spec import TaskSpec
from sync_tasks.transform.setting import TransformSpec
from tests.benchmarks.ours import Ours
from tests.benchmarks.storm import batches
from tests.servers import Server
from workers.clock import Clock
from workers.rewrite import Rewriter
from workers.scope import Scope
from workers.snapshot import SnapshotReader
from workers.spool.log import Block
from workers.target.knows import Knows
from workers.transformers import transformer
from workers.translate import Translator

PIECE_BYTES = 256 << 10
MB = 1e6
IDLE_S = 20.0
COMMANDS = 300_000
FILTERS: dict[str, dict[str, list[str]]] = {
    "none": {},
    "all in scope": {"allow_prefixes": ["counter:", "list:", "hash:", "stream:", "zset:"]},
    "half in scope": {"block_prefixes": ["list:", "stream:"]},
    "1000 prefixes": {"block_prefixes": [f"hash:{i:06}" for i in range(1000)]},
}

SCRIPTS = {
    "left as they are": "function transform(db, argv) end",
    "renamed": "function transform(db, argv) argv[2] = 'n:' .. argv[2] return argv end",
    "renamed by about": "function transform(db, argv, about)"
    " for _, i in ipairs(about.positions) do argv[i] = 'n:' .. argv[i] end return argv end",
}


class _Link:
    def end_mark(self, rest: bytes) -> None:
        assert len(rest) <= PIECE_BYTES


def framing(source: Server, place: Path, keys: int) -> str:
    """What the source has, saved, and cut into chunk files, as a receiver does with what it reads from the link.

    Once as it saves by itself, with strings that compress to some 40 bytes an entry, and once without compression.
    """
    packed, plain = (_framed(source, place, compression) for compression in ("yes", "no"))
    return (
        "framing and chunking alone     "
        + ", ".join(
            f"{size / took:4.0f} MB/s of {size * MB / keys:.0f} B an entry ({keys / took / 1e6:.1f} M entries/s)"
            for size, took in (plain, packed)
        )
        + ", one thread (must 400 MB/s, aim 1000)"
    )


def _framed(source: Server, place: Path, compression: str) -> tuple[float, float]:
    """MB of the snapshot, and seconds of processor time."""
    client = source.client(socket_timeout=600)
    client.config_set("rdbcompression", compression)
    client.save()
    client.config_set("rdbcompression", "yes")
    snapshot = source.dir / "dump.rdb"

    def parts() -> Iterator[bytes]:
        with snapshot.open("rb") as file:
            while data := file.read(PIECE_BYTES):
                yield data

    ignore: Any = lambda *_: False  # noqa: E731
    with tempfile.TemporaryDirectory(dir=place) as directory:
        reader = SnapshotReader(Path(directory), closed=ignore, progress=ignore, stopping=ignore, waiting=lambda _: 0.1)
        began = time.process_time()
        reader.read(_Link(), parts())  # type: ignore[arg-type]
        took = time.process_time() - began
    size = snapshot.stat().st_size / MB
    snapshot.unlink()
    return size, took


def filtering() -> str:
    """The stream as the mix of writes makes it, turned into windows in one thread: with and without prefixes."""
    data = b"".join(batches("mix", 100_000, 3))
    rates = {}
    for name, spec in FILTERS.items():
        rates[name] = max(_translated(data, FilterSpec(**spec)) for _ in range(3))
    plain = rates["none"]
    shares = ", ".join(f"{name} {plain / rate - 1:+.0%}" for name, rate in rates.items() if name != "none")
    return f"stream into windows, alone     {plain / 1e6:7.2f} M commands/s; a command takes so much more: {shares}"


def transforming() -> str:
    """The same stream, each command by way of a script."""
    data = b"".join(batches("mix", 100_000, 3))
    rates = {}
    for name, lua in SCRIPTS.items():
        made = transformer(TaskSpec(transform=TransformSpec(lua=lua)), Scope(None), 0, Knows())
        rates[name] = max(_translated(data, FilterSpec(), made) for _ in range(3))
    each = ", ".join(f"{rate / 1e6:.3f} M commands/s {name}" for name, rate in rates.items())
    return f"stream through a script, alone {each}"


def _translated(data: bytes, spec: FilterSpec, made_by: Rewriter | None = None) -> float:
    """Commands a second."""
    plain = Rewriter(Scope(None, spec), Clock(0), 0, lambda _: [], lambda *_: None, lambda *_: None)
    rewriter = made_by or plain
    made, began = Translator(0, 0, rewriter), time.process_time()
    for at in range(0, len(data), PIECE_BYTES):
        made.feed(Block(at, 1, 0, "r" * 40, data[at : at + PIECE_BYTES]))
        made.full.clear()
    return COMMANDS / (time.process_time() - began)


def idle(ours: Ours) -> str:
    """CPU of all our processes once in sync, while nobody writes.

    Beside it, how much more the same work costs a process that has slept before it: on a virtual machine whose caches
    others use meanwhile, several times as much, and an idle task consists of such moments.
    """
    ours.follow()
    ours.in_sync()
    time.sleep(5)
    ours.usage.mark()
    time.sleep(IDLE_S)
    ours.leave()
    return (
        f"idle, in sync                  {ours.usage.cpu_s / IDLE_S:.2%} of a core (must 2 %, aim 0.5 %);"
        f" here work after a rest takes {_woken():.1f} times the processor time of work without"
    )


def _woken() -> float:
    """Processor time of the same little work after a sleep of 0.4 s, to that without one."""

    def work() -> float:
        began = time.process_time()
        sum(len(str(number)) for number in range(5000))
        return time.process_time() - began

    without = statistics.median(work() for _ in range(50))
    after = statistics.median(work() for _ in range(20) if not time.sleep(0.4))
    return after / without
