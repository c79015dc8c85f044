"""What a snapshot that broke off has loaded and the next one has not is removed, in bounded memory."""

from __future__ import annotations

import tracemalloc
from hashlib import blake2b
from pathlib import Path

import pytest

from sync_tasks.errors import ControlError
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
        with pytest.raises(ControlError, match="keys"):
            sweep.sweep(link, chunks, 2, 0, UID, 0, Scope(None))
        link.close()
        assert client.dbsize() == 100
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
