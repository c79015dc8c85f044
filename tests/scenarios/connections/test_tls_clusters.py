"""Clusters that speak TLS alone to each other, and to clients whose certificates they want to see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clusters import Cluster
from tests.dataset import fill
from tests.scenarios.cluster_source.writers import Writers
from tests.scenarios.cluster_target.test_cluster_target import alike
from tests.scenarios.conftest import StartCluster, Sync
from tests.scenarios.connections.test_connections import KIND, command
from tests.servers import StartServer
from tests.traffic import Traffic
from tests.unit.control.tls import Authority
from workers.codec.slots_cy import slot


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def query(authority: Authority, name: str = "redis.test") -> str:
    """What a URL says besides: whom to believe, what to show, and which name the certificates are made out to."""
    return f"ca={authority.ca}&cert={authority.cert}&key={authority.key}&sni={name}"


def equal(here: str, there: str) -> None:
    verdict = command("verify", here, there, "--json")
    assert verdict.returncode == 0, verdict.stderr
    assert json.loads(verdict.stdout.splitlines()[-1])["compared"] > 200


def shift(cluster: Cluster) -> None:
    """Some slots change hands."""
    for number in (7, 100, slot(b"n1")):
        owner = cluster.owner(number)
        cluster.move(number, next(one for one in cluster.masters if one is not owner))


def test_to_a_cluster(authority: Authority, server: StartServer, cluster: StartCluster, sync: Sync) -> None:
    source, target = server(KIND), cluster(KIND, tls=authority)
    client: Any = source.client()
    fill(client, 300)
    there = target.url(query(authority))
    run = sync(source.url(0), there)
    run.wait_phase("synchronizing")
    with Traffic(source, clients=1, rate=500, mix="unswapped", databases=(0,)):
        shift(target)
        run.wait_for(lambda _: "added" in [row["kind"] for row in run.rows("select kind from event")], what="slots")
    run.settle(source)
    alike(client, target.client())
    equal(source.url(0), there)


def test_from_a_cluster(authority: Authority, server: StartServer, cluster: StartCluster, sync: Sync) -> None:
    source, target = cluster(KIND, tls=authority), server(KIND)
    client: Any = source.client()
    for number in range(300):
        client.set(f"k{number}", number)
    here = source.url(query(authority))
    run = sync(here, target.url())
    run.wait_in_sync()
    with Writers(source):
        shift(source)
        run.wait_for(lambda _: "added" in [row["kind"] for row in run.rows("select kind from event")], what="slots")
    offset = sum(int(node.client().info("replication")["master_repl_offset"]) for node in source.masters)
    run.wait_in_sync(offset=offset)
    alike(client, target.client())
    equal(here, target.url())


def test_certificates_that_are_not_in_order(
    authority: Authority, server: StartServer, cluster: StartCluster, tmp_path: Path
) -> None:
    plain, strict = server("valkey-9.1"), cluster(KIND, masters=1, tls=authority)
    own = f"cert={authority.cert}&key={authority.key}"
    for words, what in (
        (query(authority, "other.test"), "Hostname mismatch"),
        (f"ca={authority.ca}&{own}", "IP address mismatch"),
        (f"{own}&sni=redis.test", "self-signed certificate"),
    ):
        wrong = strict.url(words)
        for side, ends in (("source", (wrong, plain.url())), ("target", (plain.url(), wrong))):
            said = command("sync", *ends, "--state", str(tmp_path / "state"))
            assert said.returncode == (3 if side == "source" else 4), said
            assert what in said.stderr, said.stderr
    assert command("task", "check", "--source", strict.url(query(authority))).returncode == 0
