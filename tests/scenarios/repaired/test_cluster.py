"""The same of a source that is a cluster: each key in step with the stream of the shard that has its slot."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.clusters import Cluster, differences
from tests.run_keyferry import Keyferry
from tests.scenarios.cluster_source.test_cluster_source import alike
from tests.scenarios.cluster_source.writers import Writers
from tests.scenarios.conftest import StartCluster, Sync
from tests.servers import Server, StartServer
from tests.waiting import until
from workers.codec.slots_cy import slot

KEYS = 60
PLANTED = {*(f"p:text:{n}" for n in range(20)), *(f"p:gone:{n}" for n in range(20)), "p:extra"}


def prepare(source: Cluster) -> None:
    client = source.client()
    for number in range(KEYS):
        for kind in ("text", "gone", "still"):
            client.set(f"p:{kind}:{number}", "ours")


def plant(target: Any) -> None:
    """On a server, or a cluster."""
    for number in range(20):
        target.set(f"p:text:{number}", "theirs")
        target.delete(f"p:gone:{number}")
    target.set("p:extra", "theirs")


def repair(source: Cluster, target: Server | Cluster) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "sync_tasks.cli.main", "verify", source.url(), target.url(), "--json", "--repair"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def in_follow(run: Keyferry, target: Any) -> None:
    run.wait_in_sync()
    until(lambda: target.exists(f"p:still:{KEYS - 1}"), "what was there came")


@pytest.mark.parametrize("to", ["a server", pytest.param("a cluster", marks=pytest.mark.rare)])
def test_under_traffic(to: str, server: StartServer, cluster: StartCluster, sync: Sync) -> None:
    source = cluster("redis-7.0")
    target = server("redis-7.0") if to == "a server" else cluster("redis-7.0")
    prepare(source)
    run = sync(source.url(), target.url())
    in_follow(run, target.client())
    with Writers(source, clients=3 if isinstance(target, Server) else 1) as writers:
        until(lambda: writers.written > 200, "traffic")
        plant(target.client())
        code, found = repair(source, target)
    assert code == 0, found
    assert {item["key"] for item in found["keys"]} == PLANTED
    assert all(item["repaired"] for item in found["keys"])
    if isinstance(target, Server):
        alike(run, source, target)
    else:
        until(lambda: not differences(source.client(), target.client()), "equal", timeout=60)


def test_a_slot_that_is_on_its_way(server: StartServer, cluster: StartCluster, sync: Sync) -> None:
    """Its keys are left alone, and said to be; others are repaired. Once it has arrived, they are, too."""
    source, target = cluster("redis-7.0"), server("redis-7.0")
    prepare(source)
    names = [f"{{p:text:1}}{n}" for n in range(40)]
    for name in names:
        source.client().set(name, "ours")
    run = sync(source.url(), target.url())
    said: list[tuple[int, dict[str, Any]]] = []
    with Writers(source):
        in_follow(run, target.client())
        plant(target.client())
        for name in names:
            target.client().set(name, "theirs")
        number = slot(b"p:text:1")
        to = next(node for node in source.masters if node is not source.owner(number))
        source.move(number, to, lambda: said.append(repair(source, target)))
        ((code, found),) = said
        assert code == 1, found
        left = {item["key"]: item["why"] for item in found["keys"] if not item["repaired"]}
        assert set(left.values()) == {"its slot moves"}, left
        assert left.keys() <= {"p:text:1", *names}
        assert {item["key"] for item in found["keys"] if item["repaired"]} >= PLANTED - {"p:text:1"}
        run.wait_in_sync()
        code, again = repair(source, target)
    assert code == 0, again
    alike(run, source, target)
