"""Some keys of some databases, under traffic that moves values in and out of scope; owners die meanwhile."""

from __future__ import annotations

import pytest

from tests.dataset import fill, sibling
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots, verified
from tests.scoped import alone, scope_of
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until

RULES = """
conflict_mode = "ignore-and-proceed"
databases = { "0" = 0, "1" = 3 }
[filter]
block_prefixes = ["t:list:1", "t:set:2", "t:str:3", "t:hash:1", "t:zset:2", "t:int:3", "s:", "keyferry:"]
[filter.db.1]
allow_prefixes = ["t:s", "t:l", "hex:743a"]
block_prefixes = ["t:bits:", "t:stream:7"]
"""
COMMANDS = 2500
MINE = {"t:list:1": "mine", "s:mine": "mine", "t:set:2": "mine"}


def more(source: Server) -> None:
    """Wait for so much more of the traffic."""
    begun = executed(source)
    until(lambda: executed(source) > begun + COMMANDS, "traffic goes on", 60)


def executed(source: Server) -> int:
    return int(source.client().info("stats")["total_commands_processed"])


def mine_is_there(target: Server) -> None:
    """The target's own keys were left alone; they go, for the comparison."""
    for name, value in MINE.items():
        assert target.client().get(name) == value.encode()
        target.client().delete(name)


@pytest.mark.parametrize(
    ("source_kind", "target_kind"),
    [("redis-7.0", "valkey-9.1"), ("valkey-9.1", "valkey-9.1"), ("redis-6.2", "redis-6.2")],
)
def test_what_is_in_scope_is_exact(
    source_kind: str, target_kind: str, server: StartServer, ferry: StartFerry
) -> None:
    source, target = server(source_kind), server(target_kind)
    fill(source.client(), 2000)
    target.client().mset(MINE)
    with Traffic(source, clients=3, rate=1500, mix="all", databases=(0, 1)) as traffic:
        run = ferry(source, target, config=RULES)
        run.wait_phase("synchronizing")
        for _ in range(3):
            more(source)
            run.kill("stream worker", child=True)
        more(source)
    line = run.settle(source, 120)
    assert line["keys_done"] == line["keys_total"] > 0
    assert traffic.written > 3000
    assert run.stop() == 130
    mine_is_there(target)
    with alone(source, scope_of(RULES)):
        equal(source, target)


MERGED = """
databases = { "0" = 2, "1" = 2, "15" = 15 }
[filter.db.0]
allow_prefixes = ["t:l", "t:s"]
[filter.db.1]
block_prefixes = ["t:l", "t:s"]
"""


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1"])
def test_databases_that_are_merged(kind: str, server: StartServer, ferry: StartFerry) -> None:
    source, target = server(kind), server(kind)
    first, second = source.client(), sibling(source.client(), 1)
    with Traffic(source, clients=3, rate=1500, mix="all", databases=(0, 1)) as traffic:
        more(source)
        run = ferry(source, target, config=MERGED)
        run.wait_phase("synchronizing")
        for _ in range(2):
            more(source)
            run.kill("stream worker", child=True)
        more(source)
    run.settle(source, 120)
    assert traffic.written > 3000
    verified(source, target, config=MERGED)
    assert snapshots(source) == 1
    second.flushdb()
    second.mset({"later:1": 1, "later:2": 2})
    run.settle(source, 120)
    assert snapshots(source) == 2, "which keys of the target are those of the one database only a full sync can tell"
    verified(source, target, config=MERGED)
    assert run.stop() == 130

    for key in first.scan_iter(count=1000):
        if not key.startswith((b"t:l", b"t:s")):
            first.delete(key)
    for key in second.scan_iter(count=1000):
        first.delete(key)
        second.move(key, 0)
    first.execute_command("SWAPDB", 0, 2)
    sibling(first, 12).flushdb()
    sibling(first, 11).flushdb()
    equal(source, target)


def test_a_flush_takes_what_is_in_scope_alone(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    client = source.client()
    client.mset({f"k{i}": i for i in range(1000)})
    target.client().mset(MINE)
    client.set("s:mine", "the source's")  # out of scope, of a name that the target has
    run = ferry(source, target, config=RULES)
    run.wait_in_sync()
    client.set("s:mine", "still the source's")
    run.settle(source)
    assert target.client().get("k7") == b"7"
    client.flushdb()
    client.set("later", 1)
    run.settle(source)
    there = {key for key in target.client().scan_iter() if not key.startswith(b"keyferry:")}
    assert there == {b"later", *map(str.encode, MINE)}
    mine_is_there(target)
    assert snapshots(source) == 2


def test_blocked_commands_change_nothing_on_the_target(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    client = source.client()
    client.mset({"a": 1, "b": 1})
    run = ferry(source, target, config='[filter]\nblock_commands = ["incr", "FLUSHALL"]')
    run.wait_in_sync()
    client.execute_command("INCR", "a")
    client.incrby("b", 5)
    with client.pipeline() as pipe:
        pipe.execute_command("INCR", "a")
        pipe.set("c", 1)
        pipe.execute()
    run.settle(source)
    assert target.client().mget("a", "b", "c") == [b"1", b"6", b"1"]
    client.flushall()
    client.set("d", 1)
    run.settle(source)
    assert target.client().mget("a", "d") == [b"1", b"1"]
