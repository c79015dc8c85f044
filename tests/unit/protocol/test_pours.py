"""Long strings go to the target as one SET whose value is poured, or in pieces where that may not be."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, Fenced, KeyferryError, Malformed, Side
from sync_tasks.names import closed_key
from sync_tasks.spec import TaskSpec
from sync_tasks.throttle import Limits
from tests.servers import Server, start
from tests.unit.codec.dataset import FAR
from tests.unit.protocol.conftest import TASK, UID, Chained, Followed, endpoint, until
from tests.unit.protocol.test_building import feed
from tests.unit.protocol.test_load import Chunk as Claimed
from workers.expiry import HOLD
from workers.full import FencedBatches, load_chunk
from workers.spool.chunks import RECORD, TO_THE_END
from workers.target.link import TargetLink
from workers.target.pours import Pours
from workers.target.windows import Elsewhere
from workers.text import Text

VALUE = bytes(range(256)) * (40 << 10)
SIZE = len(VALUE)
RAW = b"\x80" + SIZE.to_bytes(4, "big") + VALUE
LESS = str(SIZE - 1)
EXPANDING = b"\xc3\x0a\x80" + (1 << 30).to_bytes(4, "big") + bytes(10)
"""Compressed, ten bytes that state to be a gigabyte."""
Breaking = Callable[[Callable[[], object]], None]


class Chunk(Claimed):
    """A claimed chunk that holds one long string; `attempt` of its loaders."""

    def __init__(self, directory: Path, body: bytes = RAW, attempt: int = 1, when: int = -1) -> None:
        super().__init__(directory, RECORD.pack(when, 3, TO_THE_END) + b"key\x00" + body, 1, huge=True)
        self.chunk = replace(self.chunk, epoch=attempt)


def calls(client: redis.Redis) -> dict[str, int]:
    """How often each command took effect or was tried since the statistics were reset."""
    return {name.removeprefix("cmdstat_"): one["calls"] for name, one in client.info("commandstats").items()}


def poured(client: redis.Redis) -> bool:
    found = calls(client)
    assert ("set" in found) != ("append" in found), found
    return "set" in found


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, Server]]:
    with start("redis-7.0") as first, start("redis-6.2") as second, start("valkey-9.1") as third:
        yield {server.kind: server for server in (first, second, third)}


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Breaking:
    """Have something done whenever a third block of a string is to be sent."""
    whole = Text.blocks

    def install(done: Callable[[], object]) -> None:
        def blocks(self: Text, *most: int) -> Iterator[bytes]:
            for number, block in enumerate(whole(self, *most)):
                if number == 2:
                    done()
                yield block

        monkeypatch.setattr(Text, "blocks", blocks)

    return install


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["redis-7.0", "redis-6.2", "valkey-9.1"])
def test_a_long_string_is_poured(kind: str, packed: bool, targets: dict[str, Server], tmp_path: Path) -> None:
    """Over what is there, which is freed aside."""
    with targets[kind].client() as client:
        client.flushall()
        client.set("key", VALUE)
        body = client.dump("key")[1:-10] if packed else RAW
        assert (len(body) < SIZE // 10) == packed, "it is compressed"
        client.delete("key")
        client.hset("key", mapping={f"f{n}": n for n in range(1000)})
        client.config_resetstat()
        chunk = Chunk(tmp_path / "gen", body, when=FAR)
        chunk.load(targets[kind])
        assert chunk.ended == 1
        assert poured(client)
        assert "rename" not in calls(client)
        assert client.get("key") == VALUE
        assert client.pttl("key") > FAR + HOLD - 1000 * time.time() - 60_000
        assert not client.keys("keyferry:tmp:*")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"appendonly": "yes"}, False),
        ({"client-query-buffer-limit": LESS}, False),
        ({"proto-max-bulk-len": LESS}, False),
        ({"maxmemory-clients": "5%"}, False),
        ({"maxmemory": str(3 * SIZE)}, False),
        ({"maxmemory": str(100 * SIZE)}, True),
    ],
    ids=str,
)
def test_what_stands_against_it(settings: Mapping[str, str], expected: bool) -> None:
    with start("redis-7.0", config=settings) as server:
        link = TargetLink(endpoint(server), "test", 0)
        assert Pours().may(link, SIZE) is expected
        assert not Pours().may(link, 1000), "it is short"
        assert not Pours().may(link, 1 << 30), "longer than an argument may be"
        link.close()


def test_to_a_target_with_a_replica_it_goes_in_pieces(tmp_path: Path) -> None:
    with start("redis-7.0") as master, start("redis-7.0") as replica, master.client() as client:
        with replica.client() as other:
            other.replicaof("127.0.0.1", master.port)
            assert until(lambda: client.info("replication").get("slave0", {}).get("state") == "online")
            client.config_resetstat()
            Chunk(tmp_path / "gen", when=FAR).load(master)
            assert not poured(client)
            assert client.get("key") == VALUE
            assert until(lambda: other.get("key") == VALUE)
            other.replicaof("NO", "ONE")
        assert not Pours().may(TargetLink(endpoint(master), "test", 0), SIZE), "its backlog is kept on"


def test_without_the_right_to_ask_for_limits_it_is_tried_once(tmp_path: Path) -> None:
    """Here the server cuts the connection off: what its setting tells to others we learn by that."""
    with start("redis-7.0", config={"client-query-buffer-limit": LESS}) as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "ferry", "on", ">pw", "~*", "&*", "+@all", "-config")
        target = Endpoint.parse(f"redis://ferry:pw@127.0.0.1:{server.port}", Side.TARGET)
        with pytest.raises(ConnectionLost):
            load_chunk(Chunk(tmp_path / "gen"), target, 0, 0)
        assert not client.exists("key")
        client.config_resetstat()
        load_chunk(Chunk(tmp_path / "gen", attempt=2), target, 0, 0)
        assert not poured(client)
        assert client.get("key") == VALUE


def test_the_fence_holds_in_the_middle_of_a_pour(
    targets: dict[str, Server], tmp_path: Path, breaking: Breaking
) -> None:
    """The load is closed while a loader sleeps; another takes its chunk over."""
    server = targets["redis-7.0"]
    with server.client() as client:
        client.flushall()
        breaking(lambda: client.set(closed_key(UID, 0, 1), "1"))
        with pytest.raises(Fenced, match="too late"):
            Chunk(tmp_path / "gen").load(server)
        assert not client.exists("key")
        client.flushall()
        breaking(lambda: FencedBatches(TargetLink(endpoint(server), "other", 0), UID, 0, 1, "0", 0, 0))
        with pytest.raises(KeyferryError):
            Chunk(tmp_path / "gen").load(server)
        assert not client.exists("key")
        client.flushall()
        breaking(client.flushall)
        with pytest.raises(ConnectionLost, match="was emptied"):
            Chunk(tmp_path / "gen").load(server)
        assert not client.exists("key")


def test_a_loader_that_is_killed_in_the_middle_leaves_nothing(
    targets: dict[str, Server], tmp_path: Path, breaking: Breaking
) -> None:
    server = targets["redis-7.0"]
    with server.client() as client:
        client.flushall()
        client.set("key", "old")
        breaking(lambda: os.kill(os.getpid(), signal.SIGKILL))
        child = multiprocessing.get_context("fork").Process(target=Chunk(tmp_path / "gen").load, args=(server,))
        child.start()
        child.join(30)
        assert child.exitcode == -signal.SIGKILL
        assert client.get("key") == b"old"
        breaking(lambda: None)
        client.config_resetstat()
        Chunk(tmp_path / "gen", attempt=2).load(server)
        assert poured(client), "its limits are known, so that was no refusal"
        assert client.get("key") == VALUE
        client.config_resetstat()
        Chunk(tmp_path / "gen", attempt=4).load(server)
        assert not poured(client), "whatever it is that ends each attempt"


@pytest.mark.parametrize("body", [RAW[:-100], RAW + b"x", EXPANDING], ids=["short", "long", "impossible"])
def test_a_string_that_is_not_what_it_states_ends_it(body: bytes, targets: dict[str, Server], tmp_path: Path) -> None:
    server = targets["redis-7.0"]
    with server.client() as client:
        client.flushall()
        with pytest.raises(Malformed):
            Chunk(tmp_path / "gen", body).load(server)
        assert not client.exists("key")


# --- in the stream


@pytest.fixture
def payload(targets: dict[str, Server]) -> bytes:
    """What DUMP gives of the value, as it stands; the target is empty."""
    with targets["redis-7.0"].client() as client:
        client.flushall()
        client.config_set("rdbcompression", "no")
        client.set("key", VALUE)
        found = client.dump("key")
        client.delete("key")
        client.config_resetstat()
    assert isinstance(found, bytes)
    assert len(found) > SIZE
    return found


def test_a_restored_string_is_poured(
    payload: bytes, targets: dict[str, Server], follow: Callable[..., Followed], breaking: Breaking
) -> None:
    """Cut twice on the way; another is cut three times, and then is left to pieces."""
    server, cuts, most = targets["redis-7.0"], [], [2]
    with server.client() as client:

        def cut() -> None:
            if len(cuts) < most[0]:
                cuts.append(client.exists("key"))
                raise ConnectionLost("the target hung up", side=Side.TARGET)

        breaking(cut)
        stream = follow(server, task=replace(TASK, spec=TaskSpec(extend_expiry_s=3600)))
        feed(stream, [b"SELECT", b"0"], [b"RESTORE", b"key", b"0", payload], [b"APPEND", b"key", b"end"])
        assert until(lambda: client.strlen("key") == SIZE + 3, 30)
        assert client.get("key") == VALUE + b"end"
        assert (cuts, calls(client)["append"]) == ([0, 0], 1)
        most[0] = 5
        feed(stream, [b"RESTORE", b"other", b"%d" % FAR, payload, b"ABSTTL"], [b"INCR", b"n"])
        assert until(lambda: client.get("n") == b"1", 30)
        assert len(cuts) == 5
        assert calls(client)["append"] > 5, "the last attempt was in pieces"
        assert client.get("other") == VALUE
        assert client.pttl("other") > 0
        assert not client.keys("keyferry:tmp:*")


def test_who_claims_in_the_middle_of_a_pour_voids_it(targets: dict[str, Server]) -> None:
    server = targets["redis-7.0"]
    with server.client() as client:
        client.flushall()
        chained = Chained(server)

        def read() -> Iterator[bytes]:
            yield VALUE[:100]
            Chained(server, epoch=2)
            yield VALUE[100:]

        window = chained.window(1, [b"SET", b"key", b""])
        window.body[-5:] = b"%d\r\n\r\n" % SIZE
        window.elsewhere.append(Elsewhere(len(window.body) - 2, SIZE, read))
        chained.chain.push(window)
        with pytest.raises(Fenced):
            chained.drain()
        assert not client.exists("key")


def test_at_a_limited_pace_it_goes_in_pieces(
    payload: bytes, targets: dict[str, Server], follow: Callable[..., Followed]
) -> None:
    """Those are spread evenly; a window is sent at once."""
    with targets["redis-7.0"].client() as client:
        stream = follow(targets["redis-7.0"])
        stream.applier.pace.limits = Limits(bytes_per_s=SIZE)
        feed(stream, [b"SELECT", b"0"], [b"RESTORE", b"key", b"0", payload])
        assert until(lambda: client.get("key") == VALUE, 30)
        assert calls(client)["append"] >= 10
