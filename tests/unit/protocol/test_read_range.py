"""Reading a range of a source into a chunk file, without a server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.errors import Malformed, SourceError
from sync_tasks.spec import TaskSpec
from sync_tasks.states import ChunkState
from sync_tasks.throttle import Limits
from sync_tasks.views import ChunkView
from workers.codec import crc64
from workers.full import Loader
from workers.pace import Pace
from workers.read_range import _Reading
from workers.source.ask import GONE, Position, Times, Values
from workers.spool.chunks import RECORD
from workers.spool.damage import is_outdated
from workers.spool.ranges import Range
from workers.spool.tables import write_tables

VERSION = 11


def payload(value: bytes, version: int = VERSION) -> bytes:
    body = value + version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


class FakeSource:
    """Has these keys: name to payload and time; `pages`: what SCAN answers."""

    spool: Path | None = None

    def __init__(self, keys: dict[bytes, tuple[bytes, int]], pages: list[tuple[int, list[bytes]]], **more: Any) -> None:
        self.keys, self.pages, self.run, self.exact = keys, pages, "run", True
        self.__dict__.update(more)

    def beyond(self, commands: int) -> int:
        return 0

    def walk(self, db: int, cursor: int, count: int) -> tuple[str, Position, int, list[bytes]]:
        after, names = self.pages.pop(0)
        return self.run, Position("", 0), after, names

    def values(self, keys: list[tuple[int, bytes]]) -> Values:
        found = [self.keys.get(name, (None, GONE)) for _, name in keys]
        return Values(Position("", 0), [one for one, _ in found], [when for _, when in found], self.exact, False)

    def times(self, db: int, names: list[bytes]) -> Times:
        return Times(Position("", 0), [self.keys[name][1] + 5 for name in names[:1]])


class FakePort:
    """Of a chunk that is a range."""

    asking = limits = Limits()

    def __init__(self, directory: Path, one: Range, **spec: Any) -> None:
        self.task = SimpleNamespace(spec=TaskSpec(**spec), databases=None, lanes=())
        self.chunk = ChunkView(1, 1, 1, 1, 2, 0, 0, False, one.path(directory, 2), 5, 0, ChunkState.RUNNING, 0, 3)

    def was_read(self, path: str, keys: int, size: int) -> None:
        self.chunk = replace(self.chunk, path=path, keys=keys, bytes=size)


def read(directory: Path, source: FakeSource, **spec: Any) -> FakePort:
    write_tables(directory, VERSION, [], [])
    port = FakePort(directory, Range(2, 1, "run"), **spec)
    assert port.chunk.is_range
    _Reading(port, source, Pace(), lambda: None).run()  # type: ignore[arg-type]
    return port


def records(path: str) -> list[tuple[int, bytes, bytes]]:
    data, at, found = Path(path).read_bytes(), 0, []
    while at < len(data):
        when, key, value = RECORD.unpack_from(data, at)
        at += RECORD.size
        found.append((when, data[at : at + key], data[at + key : at + key + value]))
        at += key + value
    return found


def test_to_the_end_of_the_range_and_no_further(tmp_path: Path) -> None:
    keys = {b"a": (payload(b"\x00\x01x"), -1), b"b": (payload(b"\x00\x01y"), 77), b"mine": (payload(b"\x00\x01z"), -1)}
    source = FakeSource(keys, [(5, [b"a", b"a", b"gone"]), (9, [b"b", b"mine"]), (2, []), (0, [b"never"])])
    port = read(tmp_path, source, filter={"block_prefixes": ["mi"]})
    assert records(port.chunk.path) == [(-1, b"a", b"\x00\x01x"), (77, b"b", b"\x00\x01y")]
    assert (port.chunk.keys, port.chunk.bytes) == (2, Path(port.chunk.path).stat().st_size)
    assert not port.chunk.is_range
    assert source.pages == [(0, [b"never"])], "cursor 2 is of another range"


def test_times_that_are_only_roughly_known_are_asked_again(tmp_path: Path) -> None:
    keys = {b"a": (payload(b"\x00\x01x"), 100), b"b": (payload(b"\x00\x01y"), -1), b"c": (payload(b"\x00\x01z"), 200)}
    port = read(tmp_path, FakeSource(keys, [(0, [b"a", b"b", b"c"])], exact=False))
    assert [(when, key) for when, key, _ in records(port.chunk.path)] == [(105, b"a"), (-1, b"b"), (205, b"c")]


def test_a_range_with_nothing_in_it_is_loaded_all_the_same(tmp_path: Path) -> None:
    port = read(tmp_path, FakeSource({}, [(0, [b"gone"])]))
    assert (port.chunk.keys, port.chunk.bytes) == (0, 0)
    loader = Loader(port)  # type: ignore[arg-type]
    loader.check()
    loader.load(None)  # type: ignore[arg-type]
    assert loader.keys == 0


def test_what_does_not_go_together_is_read_anew(tmp_path: Path) -> None:
    one = {b"a": (payload(b"\x00\x01x"), -1)}
    with pytest.raises(SourceError, match="restarted"):
        read(tmp_path, FakeSource(one, [(0, [b"a"])], run="another"))
    assert is_outdated(tmp_path)
    (tmp_path / "two").mkdir()
    with pytest.raises(SourceError, match="another version"):
        read(tmp_path / "two", FakeSource({b"a": (payload(b"\x00\x01x", 12), -1)}, [(0, [b"a"])]))
    assert is_outdated(tmp_path / "two")


def test_a_payload_is_checked(tmp_path: Path) -> None:
    bad = bytearray(payload(b"\x00\x01x"))
    bad[2] ^= 1
    with pytest.raises(Malformed, match="checksum of what DUMP gave of a "):
        read(tmp_path, FakeSource({b"a": (bytes(bad), -1)}, [(0, [b"a"])]))
