"""Each item, against servers that make it fail and servers that make it pass."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side, TargetError
from sync_tasks.precheck.facts import Facts
from sync_tasks.precheck.grants import CONTINUING, LATER, SOURCE
from sync_tasks.precheck.item import Answer
from sync_tasks.precheck.items import ITEMS, item_of, value_types
from sync_tasks.precheck.run import ask
from sync_tasks.precheck.scene import Route
from tests.clocks import Clock
from tests.dataset import LIBRARY, sibling
from tests.integration.precheck.asking import one, said, scene
from tests.servers import Server, StartServer, free_port, start
from tests.waiting import until

NOWHERE = f"redis://127.0.0.1:{free_port()}"


@pytest.fixture
def pair(server: StartServer) -> tuple[Server, Server]:
    return server("redis-7.0"), server("redis-7.0")


def test_two_plain_servers_pass_every_item(pair: tuple[Server, Server], tmp_path: Path) -> None:
    found = ask(scene(*pair, spool=tmp_path), lambda _s: None)
    assert [result.item for result in found] == [item.id for item in ITEMS]
    others = {(result.item, result.finding.value) for result in found if result.finding != "passed"}
    skipped = ("shared-keys", "replica", "notifications", "append-only", "spool-store")
    assert others == {(item, "skipped") for item in skipped}
    assert all(result.found for result in found)


def test_connection(pair: tuple[Server, Server]) -> None:
    source, target = pair
    for item, ends in (("source-connection", (NOWHERE, target)), ("target-connection", (source, NOWHERE))):
        lost = one(item, *ends)
        assert (lost.finding, lost.error and lost.error.code) == ("failed", "connection")
        assert lost.repair
    target.client().config_set("requirepass", "secret")
    assert one("target-connection", source, target.url()).error is not None


def test_items_whose_server_does_not_answer_are_not_asked(pair: tuple[Server, Server]) -> None:
    found = {result.item: result for result in ask(scene(NOWHERE, pair[1]), lambda _s: None)}
    assert found["source-topology"].finding == found["different-servers"].finding == "skipped"
    assert "not asked" in found["source-topology"].found
    assert found["target-topology"].finding == "passed"
    assert found["source-connection"].finding == "failed"


def test_a_hasty_one_ends_with_the_first_failure(pair: tuple[Server, Server]) -> None:
    found = ask(scene(NOWHERE, pair[1]), lambda _s: None, hasty=True)
    assert [result.error.code for result in found if result.error] == ["connection"]
    assert len(found) < 4


def test_one_item_is_asked_with_what_it_needs(pair: tuple[Server, Server]) -> None:
    told: list[str] = []
    (wanted,) = [item for item in ITEMS if item.id == "eviction"]
    ask(scene(*pair), lambda _s: None, lambda some: told.extend(result.item for result in some), [wanted])
    assert told == ["eviction"]


def test_source_permissions(pair: tuple[Server, Server]) -> None:
    source, target = pair
    source.client().execute_command("ACL", "SETUSER", "reader", "on", ">p", "~*", "+@all", "-psync")
    user = source.url().replace("redis://", "redis://reader:p@")
    refused = one("source-permissions", user, target)
    assert (refused.finding, refused.error and refused.error.code) == ("failed", "credentials")
    assert "PSYNC" in refused.found
    assert "keyferry task check" in refused.repair
    source.client().execute_command("ACL", "SETUSER", "reader", "+psync", "+acl")
    assert said("source-permissions", user, target) == "passed"


def test_a_source_without_psync(server: StartServer) -> None:
    source = server("redis-6.2", config={"rename-command": 'PSYNC ""'})
    refused = one("source-permissions", source, server("redis-6.2"))
    assert (refused.finding, refused.error and refused.error.code) == ("failed", "no-psync")


def test_target_permissions(pair: tuple[Server, Server]) -> None:
    source, target = pair
    target.client().execute_command("ACL", "SETUSER", "half", "on", ">p", "~*", "+@all", "-restore")
    user = target.url().replace("redis://", "redis://half:p@")
    assert said("target-permissions", source, user) == "failed"
    target.client().execute_command("ACL", "SETUSER", "half", "+restore")
    assert said("target-permissions", source, user) == "passed"
    target.client().config_set("min-replicas-to-write", 1)
    assert "replicas" in one("target-permissions", source, user).found.lower()


def test_different_servers(pair: tuple[Server, Server]) -> None:
    source, target = pair
    assert said("different-servers", source, source.url().replace("127.0.0.1", "localhost")) == "failed"
    assert said("different-servers", source, target) == "passed"
    target.client().replicaof("127.0.0.1", source.port)
    until(lambda: target.client().info()["master_link_status"] == "up", "the link is up", 10)
    same = one("different-servers", source, target)
    assert (same.finding, same.error and same.error.code) == ("failed", "same-server")


def test_topology(pair: tuple[Server, Server], server: StartServer) -> None:
    source, target = pair
    assert said("source-topology", source, target) == said("target-topology", source, target) == "passed"
    member = server("redis-7.0", config={"cluster-enabled": "yes", "cluster-port": str(free_port())})
    assert said("source-topology", member, target) == said("target-topology", source, member) == "failed"
    target.client().replicaof("127.0.0.1", free_port())
    lost = one("source-topology", target, source)
    assert (lost.finding, lost.error and lost.error.code) == ("failed", "replica-without-master")
    replica = one("target-topology", source, target)
    assert (replica.finding, replica.error and replica.error.code) == ("failed", "target-is-replica")
    assert "REPLICAOF NO ONE" in replica.repair


def test_versions(server: StartServer) -> None:
    assert said("versions", server("redis-6.2"), server("valkey-9.1")) == "passed"
    known = scene("redis://a", "redis://b")
    for side, version in ((Side.SOURCE, (7, 0)), (Side.TARGET, (6, 0))):
        endpoint = known.endpoint(side)
        known.known[side] = Facts(endpoint, "Redis", version, "", "master", True, "", "", False, {})
    with pytest.raises(TargetError, match=r"Redis 6\.0, which is not supported yet") as caught:  # none is to be had
        item_of("versions").ask(known)
    assert caught.value.code == "target-version"


@pytest.mark.parametrize("kind", ["redis-8.2", "valkey-9.1"])
def test_value_types(kind: str, server: StartServer) -> None:
    new, old = server(kind), server("redis-6.2")
    none = one("value-types", new, old)
    assert none.finding == "passed"
    assert "hash fields that expire" in none.found
    new.client().function_load(LIBRARY.format(name="lib"))
    functions = one("value-types", new, old)
    assert (functions.finding, "function libraries" in functions.found) == ("warning", True)
    new.client().function_flush("SYNC")
    sibling(new.client(), 3).hset("h", "f", "1")
    sibling(new.client(), 3).execute_command("HPEXPIRE", "h", 100_000, "FIELDS", 1, "f")
    assert said("value-types", new, old) == "warning"
    assert said("value-types", old, new) == "passed"


def test_arrays(server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server with arrays is to be had: a list stands for one."""
    monkeypatch.setattr(value_types, "ARRAY", "list")
    source = server("redis-7.0")
    table = {"filter": {"block_prefixes": ["in"]}}

    def finding(version: tuple[int, int], **more: Any) -> Answer:
        known = scene(source, "redis://b", **more)
        for side, (product, its) in {Side.SOURCE: ("Redis", (8, 8)), Side.TARGET: ("Redis", version)}.items():
            endpoint = known.endpoint(side)
            keys = {0: 3000, 2: 1}
            known.known[side] = Facts(endpoint, product, its, "", "master", True, "", "", False, keys, 0, 0)
        return item_of("value-types").ask(known)

    source.client().mset({f"k{i}": i for i in range(3000)})
    none = finding((8, 6))
    assert none.finding == "passed"
    assert ("arrays cannot be carried" in none.found, "producers" in none.found) == (True, False)
    assert "producers" in finding((8, 4)).found
    sibling(source.client(), 2).rpush("indexed", "a")
    assert finding((8, 8)).finding == "passed"
    assert "has an array, indexed of database 2; Redis 8.6 cannot: the task stops at it" in finding((8, 6)).found
    assert finding((8, 6)).finding == "warning"
    assert finding((8, 6), scope={0: 0}).finding == finding((8, 6), spec=table).finding == "passed"


def test_databases(server: StartServer) -> None:
    many, few = server("redis-7.0", config={"databases": "32"}), server("redis-7.0")
    sibling(many.client(), 20).set("a", 1)
    there = one("target-databases", many, few)
    assert (there.finding, there.error and there.error.code) == ("failed", "no-such-database")
    assert said("target-databases", many, few, scope={20: 3}) == "passed"
    assert said("source-databases", few, many, scope={20: 3}) == "failed"
    assert said("source-databases", many, few, scope={20: 3}) == "passed"


def test_target_empty(pair: tuple[Server, Server]) -> None:
    source, target = pair
    sibling(target.client(), 2).set("foreign", 1)
    sibling(target.client(), 1).set("keyferry:left", 1)
    full = one("target-empty", source, target)
    assert (full.finding, full.error and full.error.code) == ("failed", "target-not-empty")
    assert "database 2" in full.found
    assert said("target-empty", source, target, scope={0: 1}) == "passed"
    assert said("target-empty", source, target, spec={"conflict_mode": "ignore-and-proceed"}) == "skipped"


def test_shared_keys(pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = pair
    clients = [sibling(source.client(), db) for db in range(3)]
    for db, client in enumerate(clients):
        client.mset({f"{db}:{i}": i for i in range(2500)})
    assert said("shared-keys", source, target) == "skipped"
    assert said("shared-keys", source, target, scope={0: 1, 1: 2}) == "skipped"
    merged = {0: 0, 1: 0, 2: 0}
    assert said("shared-keys", source, target, scope=merged) == "passed"
    clients[2].set("1:77", "other")
    common = one("shared-keys", source, target, scope=merged)
    assert (common.finding, common.error and common.error.code) == ("failed", "shared-keys")
    assert "which are merged, both have 1:77" in common.found
    apart = {"filter": {"db": {"2": {"block_prefixes": ["1:"]}}}}
    assert said("shared-keys", source, target, scope=merged, spec=apart) == "passed"
    monkeypatch.setattr("sync_tasks.precheck.items.shared_keys.FOR_S", 0.0)
    assert said("shared-keys", source, target, scope=merged, spec=apart) == "warning"


def test_memory_and_eviction(pair: tuple[Server, Server]) -> None:
    source, target = pair
    source.client().set("big", "x" * 20_000_000)
    sibling(source.client(), 1).set("small", 1)
    there = target.client()
    there.config_set("maxmemory", "10mb")
    small = one("target-memory", source, target)
    assert small.finding == "warning"
    there.config_set("maxmemory", small.repair.partition("CONFIG SET maxmemory ")[2].split(")")[0])
    assert said("target-memory", source, target) == "passed"
    assert said("eviction", source, target) == "passed"
    there.config_set("maxmemory-policy", "allkeys-lru")
    evicts = one("eviction", source, target)
    assert (evicts.finding, "allkeys-lru" in evicts.found) == ("warning", True)
    there.config_set("maxmemory", 0)
    assert said("eviction", source, target) == "passed"


def test_modules(server: StartServer) -> None:
    new, old = server("redis-8.2"), server("redis-7.0")
    assert "vectorset" in one("modules", new, old).found
    assert said("modules", new, old) == "passed", "it has the module, and no value of it"
    new.client().mset({f"k{i}": i for i in range(3000)})
    new.client().execute_command("VADD", "v", "VALUES", 2, 1, 2, "e")
    lacks = one("modules", new, old)
    assert (lacks.finding, "MODULE LOAD" in lacks.repair) == ("warning", True)
    assert said("modules", old, new) == "passed"
    assert said("modules", server("valkey-9.1"), old) == "passed", "its engine of scripts is no matter"


def test_clocks(server: StartServer, tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    source, ahead = server("redis-7.0"), server("redis-7.0", env=clock.env)
    assert said("clocks", source, ahead) == "passed"
    clock.set(hours=1)
    apart = one("clocks", source, ahead)
    assert (apart.finding, "3600 s ahead" in apart.found) == ("warning", True)


def written(server: Server) -> None:
    """So much that it says a moment later that it receives much."""
    client = server.client()
    deadline = time.monotonic() + 10
    while float(client.info()["instantaneous_input_kbps"]) < 100:
        assert time.monotonic() < deadline
        client.set("k", "x" * 1_000_000)


def test_replica_buffer_and_backlog(pair: tuple[Server, Server]) -> None:
    source, target = pair
    client = source.client()
    client.config_set("repl-backlog-size", 65_536)
    written(source)
    for limit in ("1000 0 0", "0 1000 0"):
        client.config_set("client-output-buffer-limit", f"replica {limit}")
        written(source)
        small = one("replica-buffer", source, target)
        assert small.finding == "warning", limit
    assert "for two minutes: CONFIG SET repl-backlog-size" in one("backlog", source, target).found
    name, value = small.repair.removeprefix("CONFIG SET ").removesuffix(" there").split(" ", 1)
    client.config_set(name, value.strip('"'))
    assert said("replica-buffer", source, target) == "passed"


def test_a_stream_that_is_had_of_the_backlog_alone(pair: tuple[Server, Server], server: StartServer) -> None:
    source, target = pair
    spec = {"reader": "scan", "scan_changes": "psync"}
    refused = one("backlog", source, target, spec=spec)
    assert refused.finding == "failed"
    source.client().config_set("notify-keyspace-events", "KEA")
    assert "psync" not in one("notifications", source, target, spec={"reader": "scan"}).found
    assert 'scan_changes = "notifications"' in refused.repair
    replica = server("redis-7.0", config={"replicaof": f"127.0.0.1 {source.port}"})
    until(lambda: source.client().info("replication")["repl_backlog_active"], "it keeps one", 20)
    assert said("backlog", source, target, spec=spec) == "passed"
    assert "name its master" in one("backlog", replica, target, spec=spec).repair
    assert said("fork-headroom", source, target, spec=spec) == "skipped"
    assert 'scan_changes = "psync"' in one("notifications", source, target, spec={"reader": "scan"}).found
    assert said("source-permissions", source, target, spec=spec) == "passed"
    client = source.client()
    words = (*SOURCE, *CONTINUING, LATER)
    client.execute_command("ACL", "SETUSER", "reader", "reset", "on", ">p", "%R~*", "%R~", "+acl", *words)
    user = source.url().replace("redis://", "redis://reader:p@")
    assert said("source-permissions", user, target, spec=spec) == "passed"
    client.execute_command("ACL", "SETUSER", "reader", "-publish")
    found = one("source-permissions", user, target, spec=spec)
    assert "may not run PUBLISH" in found.found
    assert "+publish" in found.repair


def test_replication_timeout(pair: tuple[Server, Server]) -> None:
    source, target = pair
    source.client().config_set("repl-timeout", 5)
    assert said("replication-timeout", source, target) == "warning"
    source.client().config_set("repl-timeout", 60)
    assert said("replication-timeout", source, target) == "passed"


def test_fork_headroom(server: StartServer, tmp_path: Path) -> None:
    source, target = server("redis-6.2"), server("redis-6.2")
    client = source.client()
    (tmp_path / "in-the-way").mkdir()
    client.config_set("dir", str(tmp_path))
    client.config_set("dbfilename", "in-the-way")
    client.bgsave()
    until(lambda: client.info()["rdb_last_bgsave_status"] != "ok", "the snapshot has failed", 10)
    assert said("fork-headroom", source, target) == "warning"
    assert said("fork-headroom", target, source) == "passed"


def test_bulk_limit(pair: tuple[Server, Server]) -> None:
    source, target = pair
    target.client().config_set("proto-max-bulk-len", "16mb")
    assert said("bulk-limit", source, target) == "warning"
    source.client().config_set("proto-max-bulk-len", "16mb")
    assert said("bulk-limit", source, target) == "passed"


def test_items_that_may_not_ask_are_skipped(pair: tuple[Server, Server]) -> None:
    source, target = pair
    source.client().execute_command("ACL", "SETUSER", "half", "on", ">p", "~*", "+@all", "-config")
    user = source.url().replace("redis://", "redis://half:p@")
    found = {result.item: result.finding.value for result in ask(scene(user, target), lambda _s: None)}
    assert {item for item, finding in found.items() if finding == "skipped"} == {
        "replica-buffer", "backlog", "replication-timeout", "spool-space", "shared-keys", "replica", "append-only",
        "notifications", "spool-store",
    }  # fmt: skip


def test_script_replication(server: StartServer) -> None:
    source, target = server("redis-6.2"), server("redis-7.0")
    assert said("script-replication", source, target) == "passed"
    source.client().config_set("lua-replicate-commands", "no")
    assert said("script-replication", source, target) == "warning"
    assert said("script-replication", target, source) == "passed"


def test_spool_space(pair: tuple[Server, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said("spool-space", *pair, spool=tmp_path / "not" / "there" / "yet") == "passed"
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1000}))
    assert said("spool-space", *pair, spool=tmp_path) == "warning"


def test_settings_are_looked_at_without_a_server() -> None:
    ends = (NOWHERE, NOWHERE)
    assert said("retry-times", *ends) == "passed"
    assert said("retry-times", *ends, spec={"retry": {"connection_min": 30}}) == "warning"
    assert "copied anew" not in one("extended-expiry", *ends).found
    assert "copied anew" in one("extended-expiry", *ends, spec={"extend_expiry_s": 0}).found


A, B, C = (Endpoint.parse(f"redis://{name}", Side.SOURCE).identity() for name in "abc")


@pytest.mark.parametrize(
    ("scope", "others", "loops"),
    [
        (None, [], False),
        (None, [Route("back", B, A, None)], True),
        (None, [Route("on", B, C, None)], False),
        (None, [Route("on", B, C, None), Route("home", C, A, None)], True),
        (None, [Route("same", A, B, None)], False),
        ({0: 5}, [Route("back", B, A, {0: 0})], False),
        ({0: 5}, [Route("back", B, A, {5: 1})], False),
        ({0: 5}, [Route("back", B, A, {5: 0})], True),
        ({0: 5, 1: 6}, [Route("on", B, C, {6: 2}), Route("home", C, A, {2: 1})], True),
        ({0: 5, 1: 6}, [Route("on", B, C, {6: 2}), Route("home", C, A, {2: 0})], False),
        (None, [Route("on", B, C, None), Route("round", C, B, None)], False),
    ],
)
def test_loops(scope: dict[int, int] | None, others: list[Route], loops: bool) -> None:
    found = one("no-loop", "redis://a", "redis://b", scope=scope, others=tuple(others))
    assert found.finding == ("failed" if loops else "passed")
    if loops:
        assert found.error is not None
        assert found.error.code == "loop"
        assert others[-1].task in found.found


def test_what_crosses_the_network_in_the_clear_is_said(pair: tuple[Server, Server]) -> None:
    known = scene("redis://far.example", pair[1])
    item = next(item for item in ITEMS if item.id == "tls")
    assert "in the clear: far.example:6379" in item.ask(known).found
    assert "nothing leaves" in item.ask(scene(*pair)).found


def test_transform(pair: tuple[Server, Server]) -> None:
    source, target = pair
    source.client().mset({f"key:{i}": i for i in range(20)})
    sibling(source.client(), 2).hset("hash", "bad", "1")
    lua = "function transform(db, argv) if argv[3] == 'bad' then\nerror('not this') end return {db = 3, 'DEL', 'x'} end"
    failed = one("transform", *pair, spec={"transform": {"lua": lua}})
    assert (failed.finding, failed.error and failed.error.code) == ("failed", "transform")
    assert failed.found == "line 2 of the transform, at HSET hash: not this"
    assert "transform check" in failed.repair
    out_of_scope = {"transform": {"lua": lua}, "filter": {"block_prefixes": ["ha"]}}
    assert said("transform", *pair, spec=out_of_scope) == "passed"
    assert said("transform", *pair, spec={"transform": {"lua": lua}}, scope={0: 0}) == "passed"
    dropping = {"transform": {"lua": "function transform(db, argv) if db == 0 then return false end end"}}
    assert "tried on 21 keys of the source: 20 of them are dropped" in one("transform", *pair, spec=dropping).found
    assert target.client().dbsize() == 0


def test_a_replica_to_read(pair: tuple[Server, Server]) -> None:
    source, target = pair
    preferred = {"prefer_replica": True}
    assert one("replica", *pair).finding == "skipped"
    found = one("replica", *pair, spec=preferred)
    assert found.finding == "warning"
    assert "it has no replica" in found.found
    with start(source.kind, config={"replicaof": f"127.0.0.1 {source.port}"}) as replica:
        # It is linked first, and a moment later the master knows how far it is.
        until(lambda: one("replica", *pair, spec=preferred).finding == "passed", "a replica that can be read")
        assert one("replica", *pair, spec=preferred).found == f"read are 127.0.0.1:{replica.port}"
        replica.client().execute_command("ACL", "SETUSER", "default", "-psync")
        failed = one("replica", *pair, spec=preferred)
        assert failed.finding == "failed"
        assert f"127.0.0.1:{replica.port}: the user may not run PSYNC" in failed.found
    assert target.client().dbsize() == 0
