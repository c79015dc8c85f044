"""Which keys of a snapshot become one chunk."""

from __future__ import annotations

from pathlib import Path

from sync_tasks.errors import KeyferryError
from tests.servers import Server
from workers.snapshot import SHARDS, SMALL_BYTES, SnapshotReader
from workers.spool.chunks import Closed, keys_of


class Nothing:
    """A link behind a snapshot of known size."""

    def end_mark(self, rest: bytes) -> None:
        assert rest == b""


def read(source: Server, directory: Path) -> list[Closed]:
    """The chunks of what the server holds."""
    with source.client() as client:
        client.save()
    data = (source.dir / "dump.rdb").read_bytes()
    closed: list[Closed] = []
    reader = SnapshotReader(
        directory, closed=closed.append, progress=lambda _: None, stopping=lambda: False, waiting=never
    )
    reader.read(Nothing(), iter([len(data), data]))  # type: ignore[arg-type]
    return closed


def never(error: Exception) -> float:
    assert isinstance(error, KeyferryError)
    raise error


def test_a_small_database_is_one_chunk_and_a_large_one_a_chunk_for_each_shard(source: Server, tmp_path: Path) -> None:
    small = {f"s{number}": "v" for number in range(100)}
    large = {f"l{number}": "x" * 1000 for number in range(2 * SMALL_BYTES // 1000)}
    with source.client() as client:
        client.flushall()
        client.config_set("rdbcompression", "no")
        client.mset(small)
        client.execute_command("SELECT", 1)
        client.mset(large)
    chunks = read(source, tmp_path / "gen-1")
    assert [chunk.seq for chunk in chunks] == list(range(1 + SHARDS))
    assert [chunk.db for chunk in chunks] == [0] + [1] * SHARDS
    assert (chunks[0].keys, sum(chunk.keys for chunk in chunks[1:])) == (len(small), len(large))
    found = [set(keys_of(Path(chunk.path))) for chunk in chunks]
    assert found[0] == {name.encode() for name in small}
    assert set().union(*found[1:]) == {name.encode() for name in large}
    assert len({chunk.shard for chunk in chunks[1:]}) == SHARDS
