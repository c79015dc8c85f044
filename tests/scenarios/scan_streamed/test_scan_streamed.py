"""A source that is read by SCAN, and followed by its stream, without a snapshot."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from sync_tasks import Client
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.precheck.grants import USER, line
from tests import bank
from tests.clusters import differences
from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.run_up import Up
from tests.scenarios.conftest import StartCluster, StartFerry
from tests.scenarios.judge import equal
from tests.scenarios.permissions.test_permissions import denied
from tests.scoped import alone, scope_of
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until
from workers import way_back

STREAMED = 'reader = "scan"\nscan_changes = "psync"\n'


class Streamed:
    """The source as the user whom `keyferry task check` tells of. It keeps a backlog."""

    def __init__(self, source: Server) -> None:
        self._source = source
        way_back.keep(Endpoint.parse(source.url(), Side.SOURCE))
        source.client().execute_command(*line(Side.SOURCE, source.version, "word", continued=True).split())
        source.client().config_resetstat()

    def url(self) -> str:
        return self._source.url().replace("redis://", f"redis://{USER}:word@")

    def client(self, **kw: Any) -> Redis:
        return self._source.client(**kw)


def events(run: Keyferry, kind: str) -> list[str]:
    return [row["text"] for row in run.rows(f"SELECT text FROM event WHERE kind = '{kind}'")]


def without_a_snapshot(source: Server) -> None:
    assert int(source.client().info("stats")["sync_full"]) == 0


def of_target(target: Server) -> dict[str, Any]:
    """How far the addition is; {}: there is none."""
    for key in target.client().scan_iter("keyferry:*:ck", count=100_000):
        said = json.loads(target.client().hget(key, "adding") or b"{}")
        return said if "phase" in said else {}
    return {}


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1", "redis-8.2", "redis-6.2", "valkey-8.1"])
def test_every_write_takes_effect_once(server: StartServer, ferry: StartFerry, kind: str) -> None:
    """Under traffic, processes dying while it loads and while it adds, and the link being cut."""
    source, target = server(kind), server(kind)
    fill(source.client(), 2000)
    client = source.client()
    for start in range(0, 40_000, 20_000):
        client.mset({f"mass:{n}": n for n in range(start, start + 20_000)})
    bank.open_accounts(client)
    config = STREAMED + "[throttle.full]\nsource_qps = 30000\n[throttle.incremental]\nrps = 6000\n"
    with Traffic(source, mix="unswapped", transfers=True, rate=1000):
        run = ferry(Streamed(source), target, config=config, load_workers=2)
        until(lambda: target.client().dbsize() > 10_000, "it loads", 60)
        run.kill("load worker", child=True)
        run.kill("stream worker", child=True)
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")
        client.mset({f"mass:{n}": f"anew {n}" for n in range(20_000)})
        client.delete(*[f"mass:{n}" for n in range(500)])
        until(lambda: of_target(target), "it adds", 60)
        run.kill("stream worker", child=True)
        assert of_target(target), "in the middle of it"
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")
        until(lambda: events(run, "added"), "it is added", 60)
    run.settle(source)
    equal(source, target)
    without_a_snapshot(source)
    assert len(events(run, "snapshot")) == 2, "one, said of the node and the task"
    assert denied(source) == set()


def test_a_source_that_lost_its_stream_is_read_anew(server: StartServer, ferry: StartFerry) -> None:
    """What it would send instead is declined; what it has deleted goes from the target, and nothing else."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)
    target.client().set("own", "of the target")
    run = ferry(Streamed(source), target, config=STREAMED + 'conflict_mode = "ignore-and-proceed"\n')
    run.wait_in_sync()
    keys = source.client().dbsize()
    gone = list(source.client().scan_iter(count=1000))[:200]
    with source.client().pipeline(transaction=True) as pipe:
        pipe.execute_command("DEBUG", "CHANGE-REPL-ID")
        pipe.execute_command("CLIENT", "KILL", "TYPE", "replica")
        pipe.delete(*gone).execute()
    until(lambda: len(events(run, "added")) == 2, "it was read anew", 60)
    copied = [int(text.split()[0]) for text in events(run, "added")]
    assert copied[0] >= keys
    assert copied[1] >= keys - len(gone)
    run.settle(source)
    assert target.client().getdel("own") == b"of the target"
    equal(source, target)
    without_a_snapshot(source)


def test_databases_are_emptied_and_swapped_while_it_loads(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    for db in (0, 1, 2, 3):
        source.client(db=db).mset({f"{db}:{n}": n for n in range(5000)})
    config = STREAMED + "[throttle.full]\nsource_qps = 8000\n"
    run = ferry(Streamed(source), target, config=config)
    until(lambda: target.client().dbsize() > 1000, "it loads", 60)
    source.client(db=3).flushdb()
    source.client(db=3).set("3:5", "after")
    source.client().execute_command("SWAPDB", 1, 2)
    until(lambda: events(run, "added"), "it is added", 90)
    run.settle(source)
    equal(source, target)
    without_a_snapshot(source)


RULES = """
databases = { "0" = 0, "1" = 3 }
[filter]
block_prefixes = ["t:list:1", "t:set:2", "t:str:3", "s:", "keyferry:"]
[filter.db.1]
allow_prefixes = ["t:s", "t:l"]
"""


@pytest.mark.rare
def test_what_is_in_scope_is_exact(server: StartServer, ferry: StartFerry) -> None:
    """Under traffic that moves values in and out of scope."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)
    with Traffic(source, clients=3, rate=1000, databases=(0, 1)):
        run = ferry(Streamed(source), target, config=STREAMED + RULES)
        for _ in range(2):
            run.wait_phase("synchronizing")
            time.sleep(2)  # of traffic
            run.kill("stream worker", child=True)
        until(lambda: events(run, "added"), "it is added", 60)
    run.settle(source, 120)
    assert run.stop() == 130
    without_a_snapshot(source)
    with alone(source, scope_of(RULES)):
        equal(source, target)


@pytest.mark.rare
def test_a_target_that_is_a_cluster(server: StartServer, cluster: StartCluster, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), cluster("redis-7.0")
    fill(source.client(), 2000)
    with Traffic(source, clients=2, rate=1000, mix="unswapped", databases=(0,)):
        run = ferry(Streamed(source), target, config=STREAMED + "[databases]\n0 = 0\n")
        run.wait_phase("synchronizing")
        run.kill("stream worker", child=True)
        until(lambda: len(events(run, "added")) >= 3, "it is added to each part", 60)
    run.settle(source)
    until(lambda: not differences(source.client(), target.client()), "equal", timeout=20)
    without_a_snapshot(source)


@pytest.mark.rare
def test_it_is_cut_over_and_taken_back(server: StartServer, tmp_path: Path) -> None:
    """By a task that follows the other way, as any does."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 500)
    Streamed(source)
    with Up(tmp_path / "state") as service:
        service.wait_ready()
        with Client(service.state) as made:
            settings = {"reader": "scan", "scan_changes": "psync", "throttle": {"full": {"source_qps": 50_000}}}
            task = made.create(source.url(), target.url(), **settings)
            made.start(task)
            until(lambda: made.progress(task).in_sync, "in sync", 60)
            made.finish(task, reverse=True)
            until(lambda: made.get(task).state == "finished", "it is cut over", 60)
            without_a_snapshot(source)
            target.client().set("since", "the cut-over")
            until(lambda: source.client().get("since") == b"the cut-over", "it is brought back", 60)


def test_without_a_backlog_it_is_refused(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    run = ferry(source, target, config=STREAMED)
    assert run.wait(30) == 3
    assert "keeps no backlog" in run.errors
    assert 'scan_changes = "notifications"' in run.errors
    without_a_snapshot(source)


@pytest.mark.parametrize("kept", [True, False])
def test_a_spool_that_is_lost_while_it_adds(server: StartServer, ferry: StartFerry, kept: bool) -> None:
    """What the source has deleted meanwhile was named by the log. The source's backlog has it; or only from where the
    target is, and then it is not said that all is in sync."""
    source, target = server("redis-7.0"), server("redis-7.0")
    client = source.client()
    client.mset({f"k{number}": number for number in range(60_000)})
    config = STREAMED + "[throttle.full]\nsource_qps = 30000\n[throttle.incremental]\nrps = 6000\n"
    run = ferry(Streamed(source), target, config=config)
    until(lambda: target.client().dbsize() > 1000, "it loads", 60)
    client.mset({f"k{number}": "x" for number in range(20_000)})
    client.delete(*[f"k{number}" for number in range(9000, 10_000)])
    until(lambda: of_target(target).get("number", 0) > 2, "it adds", 60)
    run.kill_tree()
    lost = list((run.state / "spool").glob("*/0/*"))
    for directory in lost:
        shutil.rmtree(directory)
    assert lost
    if not kept:
        client.config_set("repl-backlog-size", 80 << 10)
        client.set("more", 1)
        assert int(client.info("replication")["repl_backlog_first_byte_offset"]) > of_target(target)["base"] + 1
    run.start()
    if kept:
        run.settle(source)
        equal(source, target)
    else:
        assert run.wait(60) == 5
        assert "not at the source" in run.errors
        assert target.client().exists("k9999"), "nobody can say whose it is"
