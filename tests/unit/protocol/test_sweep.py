"""What a snapshot that broke off has loaded and the next one has not is removed, in bounded memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import redis
from zlib_ng.zlib_ng import crc32

from sync_tasks import slots as hash_slots
from sync_tasks.errors import CannotContinue, ControlError
from sync_tasks.lanes import Lane, tags
from sync_tasks.names import begun, marks_key
from sync_tasks.spec import TaskSpec
from sync_tasks.states import ChunkState
from sync_tasks.transform.setting import TransformSpec
from sync_tasks.views import ChunkView
from tests.servers import Server
from tests.unit.protocol.conftest import UID, endpoint, known
from tests.unit.protocol.faulty import record
from workers import sweep
from workers.scope import Scope
from workers.spool.damage import is_damaged
from workers.spool.sums import sealed
from workers.target import knows
from workers.target.link import TargetLink
from workers.transformers import transformer

RENAMED = "function transform(db, argv) argv[2] = 'n:' .. argv[2] return argv end"


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
        assert sweep.sweep(link, chunks, 2, 0, UID, 0, Scope(None), known(tmp_path)) == 0
        assert client.get("a")


@pytest.mark.parametrize("has_begun", [False, True])
def test_under_a_transform_to_a_cluster_a_chunk_is_no_lanes(target: Server, tmp_path: Path, has_begun: bool) -> None:
    """Its number, a shard of the source's keys, is not the lane's: what no loader has begun may be the target's own."""
    first = replace(view(tmp_path / "gen-1" / "0.chunk", 1, [b"a"]), shard=5)
    scope = Scope(None, lane=Lane(0, tags()[0], hash_slots.ALL), shown=True)
    with target.client() as client:
        client.set("n:a", 1)
        link, spec = TargetLink(endpoint(target), "test", 0), TaskSpec(transform=TransformSpec(lua=RENAMED))
        if has_begun:
            begin(client, [first])
        client.hset(marks_key(UID, 0, 2), "0", 1)
        made = transformer(spec, scope, 0, knows.ask(link, marks_key(UID, 0, 2)))
        chunks = [first, view(tmp_path / "gen-2" / "0.chunk", 2, [b"b"])]
        assert sweep.sweep(link, chunks, 2, 0, UID, 0, scope, known(tmp_path), transformer=made) == has_begun
        assert client.exists("n:a") != has_begun


@pytest.mark.parametrize("how", ["gone", "short", "other keys", "another byte"])
def test_what_was_loaded_and_cannot_be_read_any_more_is_told(target: Server, tmp_path: Path, how: str) -> None:
    """Of the keys that it had loaded nobody could say which the source has deleted since: they would stay for ever."""
    keys = [b"k%d" % i for i in range(100)]
    chunks = [view(tmp_path / f"gen-{gen}" / "0.chunk", gen, keys) for gen in (1, 2)]
    path = Path(chunks[0].path)
    whole = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "another byte":
        chunks[0] = replace(chunks[0], path=sealed(chunks[0].path, crc32(whole)))
        Path(chunks[0].path).write_bytes(whole.replace(b"k7", b"K7"))
    else:
        kept = len(whole) // 2
        path.write_bytes(whole[:-20] if how == "short" else whole[:kept] + bytes(len(whole) - kept))
    with target.client() as client:
        begin(client, chunks)
        link = TargetLink(endpoint(target), "test", 0)
        with pytest.raises(CannotContinue, match="cannot be read any more"):
            sweep.sweep(link, chunks, 2, 0, UID, 0, Scope(None), known(tmp_path))


@pytest.mark.parametrize("most", [1 << 20, 100])
def test_a_sweep_removes_exactly_what_is_gone(
    target: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """However few hashes fit into memory at a time."""
    monkeypatch.setattr("workers.spool.hash_files.PART_HASHES", most)
    monkeypatch.setattr(sweep, "MOST_GONE", most)
    keys = [b"k%d" % i for i in range(1000)]
    chunks = [
        view(tmp_path / "gen-1" / "0.chunk", 1, keys[:600]),
        view(tmp_path / "gen-2" / "0.chunk", 2, keys[300:800]),
        view(tmp_path / "gen-3" / "0.chunk", 3, keys[500:]),
    ]
    with target.client() as client:
        client.mset(dict.fromkeys([*keys, b"own"], 1))
        link = TargetLink(endpoint(target), "test", 0)
        begin(client, chunks)
        assert sweep.sweep(link, chunks, 3, 0, UID, 0, Scope(None), known(tmp_path)) == 500
        link.close()
        assert {key for key in client.keys("*") if not key.startswith(b"keyferry:")} == {*keys[500:], b"own"}
        assert not client.keys("keyferry:*:load:*")


def test_what_is_known_of_earlier_snapshots_and_their_log_goes_too(target: Server, tmp_path: Path) -> None:
    """Their files are gone. Databases may go to others, and several to one."""
    old = [view(tmp_path / f"gen-1-{db}" / "0.chunk", 1, [b"k%d" % i for i in range(db, 100)]) for db in (1, 2)]
    mine = known(tmp_path)
    mine.add(1, [(db, Path(chunk.path), chunk.keys) for db, chunk in zip((1, 2), old, strict=True)])
    for chunk in old:
        Path(chunk.path).unlink()
    new = replace(view(tmp_path / "gen-2" / "0.chunk", 2, [b"k%d" % i for i in range(50)]), db=1)
    scope = Scope({1: 3, 2: 3, 4: 4})
    with target.client(db=3) as client, target.client(db=2) as other:
        for one in (client, other):
            one.mset({b"k%d" % i: 1 for i in range(100)})
        client.set("own", 1)
        link = TargetLink(endpoint(target), "test", 0)
        with target.client() as home:
            begin(home, old)
        assert sweep.sweep(link, [*old, new], 2, 0, UID, 0, scope, mine) == 50
        link.close()
        assert {*client.keys("*")} == {b"own", b"k0", *new_keys(new)}
        assert len(other.keys("*")) == 100, "not in scope"


def new_keys(chunk: ChunkView) -> list[bytes]:
    return [b"k%d" % i for i in range(chunk.keys)]


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
            sweep.sweep(link, chunks, 2, 0, UID, 0, Scope(None), known(tmp_path))
        link.close()
        assert client.dbsize() == 102, "the keys, and the marks of two snapshots"
    assert is_damaged(path.parent)
