"""What a snapshot that broke off has loaded and the next one has not is removed, in bounded memory."""

from __future__ import annotations

import tracemalloc
from hashlib import blake2b
from pathlib import Path

import pytest
import redis

from sync_tasks.errors import CannotContinue, ControlError
from sync_tasks.names import begun, marks_key
from sync_tasks.states import ChunkState
from sync_tasks.views import ChunkView
from tests.servers import Server
from tests.unit.protocol.conftest import UID, endpoint
from tests.unit.protocol.faulty import record
from workers import sweep
from workers.scope import Scope
from workers.spool.damage import is_damaged
from workers.target.link import TargetLink


def view(path: Path, gen: int, keys: list[bytes]) -> ChunkView:
    path.parent.mkdir(exist_ok=True)
    data = b"".join(map(record, keys))
    path.write_bytes(data)
    return ChunkView(gen, 1, 1, gen, 0, 0, 0, False, str(path), len(keys), len(data), ChunkState.DONE, 0, 1)


def begin(client: redis.Redis, chunks: list[ChunkView]) -> None:
    """A loader has begun each."""
    for chunk in chunks:
        client.hset(marks_key(UID, 0, chunk.gen), begun(str(chunk.seq)), 1)


def test_what_no_loader_has_begun_is_left_alone(target: Server, tmp_path: Path) -> None:
    """A key of the same name may be the target's own."""
    chunks = [view(tmp_path / "gen-1" / "0.chunk", 1, [b"a"]), view(tmp_path / "gen-2" / "0.chunk", 2, [b"b"])]
    with target.client() as client:
        client.set("a", 1)
        link = TargetLink(endpoint(target), "test", 0)
        assert sweep.sweep(link, chunks, 2, 0, UID, 0, Scope(None)) == 0
        assert client.get("a")


@pytest.mark.parametrize("how", ["gone", "short", "other keys"])
def test_what_was_loaded_and_cannot_be_read_any_more_is_told(target: Server, tmp_path: Path, how: str) -> None:
    """Of the keys that it had loaded nobody could say which the source has deleted since: they would stay for ever."""
    keys = [b"k%d" % i for i in range(100)]
    chunks = [view(tmp_path / f"gen-{gen}" / "0.chunk", gen, keys) for gen in (1, 2)]
    path = Path(chunks[0].path)
    whole = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        kept = len(whole) // 2
        path.write_bytes(whole[:-20] if how == "short" else whole[:kept] + bytes(len(whole) - kept))
    with target.client() as client:
        begin(client, chunks)
        link = TargetLink(endpoint(target), "test", 0)
        with pytest.raises(CannotContinue, match="cannot be read any more"):
            sweep.sweep(link, chunks, 2, 0, UID, 0, Scope(None))


@pytest.mark.parametrize("most", [1 << 20, 100])
def test_a_sweep_removes_exactly_what_is_gone(
    target: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    sizes: list[int] = []

    class Counted(sweep.Hashes):
        def __init__(self) -> None:
            super().__init__()
            sizes.append(0)

        def add(self, value: bytes) -> None:
            super().add(value)
            sizes[-1] += 1

    monkeypatch.setattr(sweep, "Hashes", Counted)
    monkeypatch.setattr(sweep, "MOST_HASHES", most)
    keys = [b"k%d" % i for i in range(1000)]
    chunks = [
        view(tmp_path / "gen-1" / "0.chunk", 1, keys[:600]),
        view(tmp_path / "gen-2" / "0.chunk", 2, keys[300:800]),
        view(tmp_path / "gen-3" / "0.chunk", 3, keys[500:]),
    ]
    with target.client() as client:
        client.mset(dict.fromkeys(keys, 1))
        link = TargetLink(endpoint(target), "test", 0)
        begin(client, chunks)
        assert sweep.sweep(link, chunks, 3, 0, UID, 0, Scope(None)) == 500
        link.close()
        assert {key for key in client.keys("*") if not key.startswith(b"keyferry:")} == {*keys[500:]}
        assert not client.keys("keyferry:*:load:*")
    assert sum(sizes) == 1000
    assert max(sizes) < 1.5 * most


def test_a_sweep_by_a_torn_file_removes_nothing(target: Server, tmp_path: Path) -> None:
    keys = [b"k%d" % i for i in range(100)]
    chunks = [view(tmp_path / f"gen-{gen}" / "0.chunk", gen, keys) for gen in (1, 2)]
    path = Path(chunks[1].path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with target.client() as client:
        client.mset(dict.fromkeys(keys, 1))
        link = TargetLink(endpoint(target), "test", 0)
        begin(client, chunks)
        with pytest.raises(ControlError, match="keys"):
            sweep.sweep(link, chunks, 2, 0, UID, 0, Scope(None))
        link.close()
        assert client.dbsize() == 102, "the keys, and the marks of two snapshots"
    assert is_damaged(path.parent)


def test_hashes_take_little_more_than_their_bytes() -> None:
    def made(count: int) -> int:
        tracemalloc.start()
        known = sweep.Hashes()
        for i in range(count):
            known.add(blake2b(b"%d" % i, digest_size=16).digest())
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert all(blake2b(b"%d" % i, digest_size=16).digest() in known for i in range(0, count, 97))
        assert not any(blake2b(b"%d" % -i, digest_size=16).digest() in known for i in range(1, 5000))
        return size

    each = (made(400_000) - made(0)) / 400_000
    assert each * sweep.MOST_HASHES < 100 << 20


def test_a_hash_is_not_found_across_two_others() -> None:
    known = sweep.Hashes()
    for value in (b"\0" * 8 + b"a" * 8, b"\0\0" + b"b" * 14):
        known.add(value)
    assert b"\0" * 8 + b"a" * 8 in known
    assert b"\0\0" + b"b" * 14 in known
    assert b"a" * 8 + b"\0\0" + b"b" * 6 not in known
    known = sweep.Hashes()
    known.add(b"\0\0" + b"c" * 12 + b"\0\0")
    known.add(b"\0\0" + b"d" * 14)
    assert b"\0\0" + b"\0\0" + b"d" * 12 not in known
