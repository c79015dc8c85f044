"""Servers that answer, but cannot be the ends of a task."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.scenarios.errors.command import refused, run, untouched
from tests.servers import Server, free_port, start


def replica_of(server: Server, port: int, *, linked: bool) -> None:
    client = server.client()
    client.execute_command("REPLICAOF", "127.0.0.1", port)
    deadline = time.monotonic() + 10
    while linked and client.info("replication")["master_link_status"] != "up":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_replica_that_has_no_master(target: Server, state: Path) -> None:
    with start("redis-7.0") as lonely:
        port = free_port()
        replica_of(lonely, port, linked=False)
        ended = run("sync", lonely.url(), target.url(), "--state", str(state))
    refused(ended, "source", f"127.0.0.1:{lonely.port}", f"lost its master 127.0.0.1:{port}")
    untouched(target)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_source_is_the_target(host: str, source: Server, state: Path) -> None:
    ended = run("sync", source.url(), f"redis://{host}:{source.port}", "--state", str(state))
    refused(ended, "usage", "the same server")
    untouched(source)


def test_the_source_is_the_target_by_another_database(source: Server, state: Path) -> None:
    ended = run("sync", source.url(0), source.url(1), "--state", str(state))
    refused(ended, "usage", "the same server")


def test_the_target_is_a_replica_of_the_source(source: Server, state: Path) -> None:
    with start("redis-7.0") as copy:
        replica_of(copy, source.port, linked=True)
        ended = run("sync", source.url(), copy.url(), "--state", str(state))
    refused(ended, "usage", "is a replica of the same data set")


def test_the_source_is_a_replica_of_the_target(source: Server, state: Path) -> None:
    with start("redis-7.0") as copy:
        replica_of(copy, source.port, linked=True)
        ended = run("sync", copy.url(), source.url(), "--state", str(state))
    refused(ended, "usage", "is a replica of the same data set")


def test_the_target_is_a_replica_of_another(source: Server, target: Server, state: Path) -> None:
    with start("redis-7.0") as copy:
        replica_of(copy, target.port, linked=True)
        ended = run("sync", source.url(), copy.url(), "--state", str(state))
    refused(ended, "target", f"is a replica of 127.0.0.1:{target.port}", "name its master")


def test_a_target_that_holds_keys(source: Server, state: Path) -> None:
    with start("redis-7.0") as full:
        full.client(db=3).set("mine", "1")
        ended = run("sync", source.url(), full.url(), "--state", str(state), "--json")
        assert full.client(db=3).get("mine") == b"1"
        untouched(full)
    refused(ended, "target", "database 3 is not empty", "ignore-and-proceed")
    assert ended.lines[-1]["error"]["code"] == "target-not-empty"
    assert ended.lines[-1]["phase"] == "precheck-failed"


def test_a_target_that_holds_keys_elsewhere_is_no_error(source: Server, state: Path) -> None:
    with start("redis-7.0") as full:
        full.client(db=3).set("mine", "1")
        ended = run("sync", source.url(0), full.url(4), "--state", str(state), "--until", "in-sync")
        assert ended.code == 0, ended
        assert full.client(db=3).get("mine") == b"1"


def test_a_target_that_holds_keys_and_a_user_who_knows(source: Server, tmp_path: Path, state: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('conflict_mode = "ignore-and-proceed"\n')
    with start("redis-7.0") as full:
        full.client().set("mine", "1")
        urls = (source.url(), full.url())
        ended = run("sync", *urls, "--state", str(state), "--until", "in-sync", "--config", str(config))
        assert ended.code == 0, ended
        assert full.client().get("mine") == b"1"


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_cluster(side: str, source: Server, target: Server, state: Path) -> None:
    with start("redis-7.0", config={"cluster-enabled": "yes", "cluster-port": str(free_port())}) as member:
        urls = [member.url(), target.url()] if side == "source" else [source.url(), member.url()]
        ended = run("sync", *urls, "--state", str(state))
    refused(ended, side, "member of a cluster", "redis+cluster://")


def test_a_database_that_the_target_does_not_have(state: Path) -> None:
    with start("redis-7.0") as source, start("redis-7.0", config={"databases": "4"}) as small:
        source.client(db=7).set("k", "v")
        ended = run("sync", source.url(), small.url(), "--state", str(state))
        refused(ended, "target", "has no database 7")
        again = run("sync", source.url(7), small.url(7), "--state", str(state))
        refused(again, "target", "has no database 7")
        untouched(small)


def test_a_database_that_the_source_does_not_have(source: Server, target: Server, state: Path) -> None:
    ended = run("sync", source.url(99), target.url(0), "--state", str(state))
    refused(ended, "source", "has no database 99")


def test_a_target_that_cannot_write(source: Server, state: Path) -> None:
    with start("redis-7.0", config={"min-replicas-to-write": "1"}) as waiting:
        ended = run("sync", source.url(), waiting.url(), "--state", str(state))
    refused(ended, "target", "NOREPLICAS", "min-replicas-to-write")
