"""Damaged bytes for the parsers of snapshots: each case ends well or in a typed error, and takes little memory.

The compiled core and plain Python must agree. A case follows from its seed and number alone, so that it can be tried
again: `python -m tests.fuzz --seed SEED --first NUMBER`.
"""

from __future__ import annotations

import io
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_tasks.errors import Malformed
from tests.unit.codec.forms import form
from tests.unit.codec.newer import redis_types
from tests.unit.codec.old import VERSIONS, old
from tests.unit.codec.rdb import compress, frame
from tests.unit.codec.samples import VALUES, all_types, intset, listpack, ziplist, zipmap
from workers.codec.reads import Reads

TWIN = 40
"""Of so many cases one is tried in plain Python, too."""
WEIGHED = 25
"""Of so many cases one is weighed."""
BASE, FACTOR = 6 << 20, 400
"""Bytes that a case may take, and bytes for each byte of it: a byte of LZF stands for up to 132."""

_WORDS = [b"", b"a", b"12", b"-70000", b"x" * 80, b"9000000000"]
_ODD = [0, 1, 5, 63, 64, 127, 128, 129, 192, 195, 253, 254, 255, 242, 243, 250, 251, 252]


def _without_checksum(data: bytes) -> bytes:
    """Damage must be found by the parsers, not by the checksum."""
    return data[:-8] + bytes(8)


def snapshots() -> list[bytes]:
    """Seeds written by hand: every version and type."""
    return [_without_checksum(all_types()), _without_checksum(redis_types())] + [
        _without_checksum(old(version)) if version >= 5 else old(version) for version in VERSIONS
    ]


def _framed(codec: Any, data: bytes, rng: random.Random) -> object:
    """A snapshot, and all that is made of what is framed: commands, pieces, the list of what expires."""
    shards = rng.choice([1, 4])
    framer = codec.Framer(shards, rng.choice([128, 700, 8 << 20]))
    framed = frame(framer, shards, data, [rng.randrange(1, 3000) for _ in range(5)])
    told: list[object] = [framed.told(), sorted(framed.buffers.items())]
    for buf in framed.buffers.values():
        told.append(_tried(lambda buf=buf: codec.volatile(buf)))
        told.append(_tried(lambda buf=buf: _encoded(codec, buf)))
        for version in (9, 10, 12, 80):
            told.append(_tried(lambda buf=buf, version=version: _transcribed(codec, buf, version)))
    for _, value in list(framed.entries().values())[:40]:
        if codec.can_piece(value[0]):
            told.append(_tried(lambda value=value: list(codec.pieces(io.BytesIO(value[1:]).read, value[0], 1024, 9))))
    return told


def _encoded(codec: Any, buf: bytes) -> list[object]:
    encoder, pos, found = codec.RestoreEncoder(80, 1 << 60, 1 << 45), 0, []
    while pos < len(buf):
        out, keys, pos = encoder.encode(buf, pos, 50, 1 << 20)
        found.append((out, keys))
    return found


def _transcribed(codec: Any, buf: bytes, version: int) -> list[object]:
    """In the forms of a target of this version; both lines stand for the source."""
    reads, found = Reads(version), []
    for source in (14, 80):
        transcriber = codec.Transcriber(reads.table(source), source, reads.timed, reads.stream, 9)
        pos, keys = 0, 1
        while keys:
            out, keys, pos = transcriber.take(buf, pos, 50, 1 << 20, 1 << 20)
            found.append((bytes(out), keys, pos, transcriber.lost, transcriber.first))
    return found


def _tried(what: Callable[[], object]) -> object:
    """What comes out, or the typed error; anything else ends the run."""
    try:
        return what()
    except Malformed as error:
        return type(error).__name__, error.message, error.offset


def _packed(name: str) -> Callable[[Any, bytes, random.Random], object]:
    return lambda codec, data, _: list(getattr(codec.packed, name)(data, 7))


def _lzf(codec: Any, data: bytes, rng: random.Random) -> object:
    size = rng.choice([len(data), 3 * len(data), rng.randrange(1 << 20), 1 << 60])
    expander = codec.Expander(size, 1024)
    expander.feed(data)
    parts = []
    while piece := expander.take():
        parts.append(piece)
    return parts, _tried(lambda: codec.decompress(data, size))


def _pieces(codec: Any, data: bytes, rng: random.Random) -> object:
    kind = rng.choice([0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14, 16, 17, 18, 20, 22, 23, 24, 25])
    sizes = rng.choice([1024, 1 << 20]), rng.choice([1, 50])
    return list(codec.pieces(io.BytesIO(data).read, kind, *sizes, 9, rng.choice([12, 80])))


@dataclass(frozen=True, slots=True)
class Target:
    """A parser: how it is tried, and good bytes to begin with."""

    name: str
    attempt: Callable[[Any, bytes, random.Random], object]
    seeds: Sequence[bytes]


def targets(more: Sequence[bytes] = ()) -> list[Target]:
    """All parsers of snapshots; `more` snapshots as seeds, of real servers."""
    pairs = list(zip(_WORDS[::2], _WORDS[1::2], strict=True))
    return [
        Target("snapshot", _framed, [*snapshots(), *map(_without_checksum, more)]),
        Target("pieces", _pieces, [VALUES[kind] for kind in sorted(VALUES)]),
        Target("listpack", _packed("listpack"), [listpack(_WORDS), listpack([b"y" * 5000]), listpack([])]),
        Target("ziplist", _packed("ziplist"), [ziplist(_WORDS), ziplist([b"y" * 20000]), ziplist([])]),
        Target("intset", _packed("intset"), [intset([1, 2]), intset([-70000]), intset([1 << 40])]),
        Target("zipmap", _packed("zipmap"), [zipmap(pairs), zipmap([(b"k" * 300, b"v" * 254)])]),
        Target("lzf", _lzf, [compress(b"abc" * 400), compress(bytes(range(256)) * 3)]),
    ]


def damaged(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the seeds with bytes changed, left out, put in, or another's behind them."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at = rng.randrange(len(data) + 1)
        how = rng.random()
        if how < 0.6 and at < len(data):
            data[at] = rng.choice([rng.choice(_ODD), rng.randrange(256), data[at] ^ 1 << rng.randrange(8)])
        elif how < 0.75:
            del data[at : at + rng.choice([1, 1, 2, 9, 200])]
        elif how < 0.9:
            data[at:at] = rng.choice(
                [rng.randbytes(rng.randrange(1, 12)), b"\x81" + b"\xff" * 8, b"\x80\x7f\xff\xff\xff"]
            )
        else:
            other = rng.choice(seeds)
            data[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(data[: rng.choice([len(data), len(data), rng.randrange(len(data) + 1)])])


@dataclass
class Tally:
    """What a run did."""

    cases: int = 0
    refused: dict[str, int] = field(default_factory=dict)


def _numbers(first: int, most: int | None) -> Iterator[int]:
    number = first
    while most is None or number < first + most:
        yield number
        number += 1


def fuzz(seconds: float, seed: int, first: int = 0, most: int | None = None, more: Sequence[bytes] = ()) -> Tally:
    """Try cases for so long, or `most` of them from `first` on.

    Raises AssertionError, or whatever a parser raised that is no Malformed, with the case's seed and number noted.
    """
    tally, parsers, stop = Tally(), targets(more), time.monotonic() + seconds
    for number in _numbers(first, most):
        if time.monotonic() > stop:
            break
        rng = random.Random(f"{seed}/{number}")
        target = parsers[number % len(parsers)]
        data = damaged(target.seeds, rng)
        try:
            refused = _case(target, data, rng, number)
        except BaseException as error:
            error.add_note(f"{target.name}: python -m tests.fuzz --seed {seed} --first {number}")
            raise
        tally.cases += 1
        tally.refused[target.name] = tally.refused.get(target.name, 0) + refused
    return tally


def _case(target: Target, data: bytes, rng: random.Random, number: int) -> bool:
    """Try one; whether it was refused."""
    state = rng.getstate()
    weighed = number % WEIGHED == 0
    if weighed:
        tracemalloc.start()
    try:
        found = _tried(lambda: target.attempt(form("compiled"), data, rng))
    finally:
        if weighed:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    if weighed:
        assert peak < BASE + FACTOR * len(data), f"{peak} bytes of memory for {len(data)}"
    if number % TWIN == 0:
        rng.setstate(state)
        twin = _tried(lambda: target.attempt(form("plain"), data, rng))
        assert twin == found, "the compiled core and plain Python differ"
    return isinstance(found, tuple) and found[0] in ("Malformed", "UnsupportedType")
