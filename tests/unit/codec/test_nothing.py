"""Collections of nothing: Valkey 9 makes one by COPY of a hash whose fields are all over, and no server restores it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from tests.conftest import StartServer
from tests.unit.codec.forms import form
from tests.unit.codec.rdb import entry, frame, rdb
from workers.source.ask import Source


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 14, 18, 22])
def test_they_are_passed_over(codec: Any, kind: int) -> None:
    data = rdb(entry(b"nothing", kind, b"\x00"), entry(b"text", 0, b"\x00"), entry(b"last", 0, b"\x01a"))
    framed = frame(codec.Framer(2), 2, data)
    assert {key for _, key in framed.entries()} == {b"text", b"last"}


def test_those_of_a_server(server: StartServer) -> None:
    source = server("valkey-9.1", config={"enable-debug-command": "yes"})
    client = source.client()
    client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    client.set("other", 1)
    client.hset("hash", mapping={"a": 1, "b": 2})
    client.execute_command("HPEXPIRE", "hash", 10, "FIELDS", 2, "a", "b")
    while client.hgetall("hash"):
        time.sleep(0.01)
    client.copy("hash", "nothing")
    assert client.exists("nothing")
    client.save()
    framed = frame(form("compiled").Framer(2), 2, (source.dir / "dump.rdb").read_bytes())
    assert {key for _, key in framed.entries()} == {b"other", b"hash"}
    said = Source(Endpoint.parse(source.url(), Side.SOURCE)).values([(0, b"nothing"), (0, b"other")])
    assert said.values[0] is None
    assert said.values[1] is not None
