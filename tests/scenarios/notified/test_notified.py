"""A source that forbids PSYNC is read by SCAN, and then followed by its keyspace notifications."""

from __future__ import annotations

import time
from typing import Any

import pytest
from redis import Redis

from sync_tasks.precheck.grants import LISTENING, SCANNING
from tests.clusters import differences
from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartCluster, StartFerry
from tests.scenarios.judge import equal
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until

FOLLOWED = 'reader = "scan"\n'
TELLS = {"notify-keyspace-events": "KEA"}
LATER = ("+pexpiretime", "+function|list")


class Listener:
    """The source as a user who may read and listen, and nothing else."""

    def __init__(self, source: Server) -> None:
        self._source = source
        keys = ["%R~*", "%R~"] if source.version >= (7, 0) else ["~*"]
        words = [*SCANNING, *LISTENING]
        if source.version < (7, 0):
            words = [one for one in words if one not in LATER]
        source.client().execute_command("ACL", "SETUSER", "reader", "reset", "on", ">word", *keys, *words)

    def url(self) -> str:
        return self._source.url().replace("redis://", "redis://reader:word@")

    def client(self, **kw: Any) -> Redis:
        return self._source.client(**kw)


def quiet(run: Keyferry, source: Server, target: Server) -> None:
    """Until the target has all that the source has told up to now, and nothing is held."""
    mark = b"%d" % time.monotonic_ns()
    source.client().set("mark", mark)
    until(lambda: target.client().get("mark") == mark, "what was told is there")
    at = len(run.lines)
    until(lambda: any(line["in_sync"] for line in run.lines[at:]), f"in sync\n{run.report()}")


def passes(run: Keyferry) -> list[str]:
    """What passes over all keys have found."""
    return [row["text"] for row in run.rows("SELECT text FROM event WHERE kind = 'reconciled'")]


def cut(source: Server) -> None:
    """End the subscription, and lose what was told meanwhile."""
    source.client().execute_command("CLIENT", "KILL", "TYPE", "pubsub")


@pytest.mark.rare
@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1", "redis-8.2", "redis-6.2"])
def test_what_is_told_is_enough(server: StartServer, ferry: StartFerry, kind: str) -> None:
    """Under traffic, by a user who may not replicate, without a pass over all keys."""
    source, target = server(kind, config=TELLS), server(kind)
    fill(source.client(), 2000)
    with Traffic(source, mix="unswapped", transfers=False):
        run = ferry(Listener(source), target, config=FOLLOWED)
        at = run.wait_in_sync()["applied_offset"]
        run.wait_for(lambda line: (line["applied_offset"] or 0) > at + (1 << 20), what="a megabyte of changes")
    quiet(run, source, target)
    assert passes(run) == []
    equal(source, target)
    assert int(source.client().info("stats")["sync_full"]) == 0


def test_processes_die_and_the_subscription_is_cut(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=TELLS), server("redis-7.0")
    fill(source.client(), 2000)
    client = source.client()
    for start in (0, 10_000):
        client.mset({f"mass:{n}": n for n in range(start, start + 10_000)})
    config = FOLLOWED + "[throttle.full]\nsource_qps = 20000\n"
    with Traffic(source, mix="unswapped"):
        run = ferry(Listener(source), target, config=config, load_workers=2)
        until(lambda: target.client().dbsize() > 3000, "it loads")
        run.kill("load worker", child=True)
        cut(source)
        run.kill("stream worker", child=True)
        run.wait_in_sync()
        for round in range(2):
            found = len(passes(run))
            run.kill("stream worker", child=True)
            client.delete(*[f"mass:{n}" for n in range(round, 1000, 2)])  # nobody listens
            client.mset({f"mass:{n}": f"anew {round}" for n in range(1000, 2000)})
            until(lambda found=found: len(passes(run)) > found, "it has compared all keys")
            cut(source)
    quiet(run, source, target)
    equal(source, target)


def test_what_no_notification_tells_is_found(server: StartServer, ferry: StartFerry) -> None:
    """Keys that are the target's own stay."""
    source, target = server("redis-7.0", config=TELLS), server("redis-7.0")
    for db in (0, 1, 2):
        source.client(db=db).mset({f"{db}:{n}": n for n in range(3000)})
        target.client(db=db).set("own", "of the target")
    run = ferry(Listener(source), target, config=FOLLOWED + 'conflict_mode = "ignore-and-proceed"\n')
    run.wait_in_sync()
    source.client(db=0).flushdb()
    source.client(db=0).set("0:5", "after")
    source.client().execute_command("SWAPDB", 1, 2)
    until(lambda: passes(run), "it has compared all keys")
    quiet(run, source, target)
    for db in (0, 1, 2):
        assert target.client(db=db).getdel("own") == b"of the target"
    target.client().delete("mark")
    source.client().delete("mark")
    assert [key for key in target.client().scan_iter() if not key.startswith(b"keyferry:")] == [b"0:5"]
    equal(source, target)


@pytest.mark.rare
def test_a_source_that_does_not_tell(server: StartServer, ferry: StartFerry) -> None:
    """It is refused, with what to do; one that no longer tells is waited for, and all keys are compared."""
    source, target = server("redis-7.0", config={"notify-keyspace-events": "Kg"}), server("redis-7.0")
    source.client().mset({f"k:{n}": n for n in range(1000)})
    refused = ferry(Listener(source), target, config=FOLLOWED)
    assert refused.wait(30) == 3
    assert "CONFIG SET notify-keyspace-events KEA" in refused.errors
    source.client().config_set("notify-keyspace-events", "KEA")
    run = ferry(Listener(source), target, config=FOLLOWED)
    run.wait_in_sync()
    source.client().config_set("notify-keyspace-events", "")
    source.client().delete("k:1", "k:2")
    run.wait_retry("source", 30)
    source.client().config_set("notify-keyspace-events", "KEA")
    until(lambda: passes(run), "it has compared all keys")
    quiet(run, source, target)
    equal(source, target)


def test_a_source_that_comes_back_empty_empties_nothing(server: StartServer, ferry: StartFerry) -> None:
    """Its FLUSHALL is carried; that it was restarted without its data is not."""
    source, target = server("redis-7.0", config=TELLS), server("redis-7.0")
    source.client().mset({f"k:{n}": n for n in range(3000)})
    run = ferry(source, target, config=FOLLOWED)
    run.wait_in_sync()
    source.client().flushall()
    until(lambda: target.client().dbsize() < 10, "it has compared all keys")  # our own are left
    source.client().mset({f"k:{n}": n for n in range(3000)})
    quiet(run, source, target)
    source.stop(save=False)
    source.start()
    assert source.client().dbsize() == 0
    run.wait_for(lambda line: "was restarted and has 0 keys" in str(line["retry"]), 30)
    assert target.client().dbsize() > 3000
    source.client().mset({f"k:{n}": n for n in range(2900)})
    quiet(run, source, target)
    equal(source, target)


@pytest.mark.rare
def test_large_values_and_a_target_without_its_data(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=TELLS), server("redis-7.0")
    client = source.client()
    client.set("small", 1)
    run = ferry(Listener(source), target, config=FOLLOWED)
    run.wait_in_sync()
    client.set("huge", b"x" * (20 << 20), px=1_000_000)
    with client.pipeline(transaction=False) as pipe:
        for n in range(200_000):
            pipe.hset("fields", n, f"value {n}")
        pipe.execute()
    client.set(b"\r\n*3\r\n", b"\x00\xff")
    client.set("", "no name")
    quiet(run, source, target)
    equal(source, target)
    target.restart(save=False)
    quiet(run, source, target)
    equal(source, target)


@pytest.mark.rare
def test_what_is_never_told_is_found_in_time(server: StartServer, ferry: StartFerry) -> None:
    """A group's state changes without a notification: the next pass finds it."""
    source, target = server("redis-7.0", config=TELLS), server("redis-7.0")
    client = source.client()
    client.xgroup_create("stream", "group", "0", mkstream=True)
    for n in range(10):
        client.xadd("stream", {"n": n})
    run = ferry(Listener(source), target, config=FOLLOWED + "reconcile_min = 1\n")
    run.wait_in_sync()
    found = client.xreadgroup("group", "reader", {"stream": ">"}, count=5)
    client.xack("stream", "group", found[0][1][0][0])
    until(lambda: passes(run), "it has compared all keys", 90)
    quiet(run, source, target)
    equal(source, target)


@pytest.mark.rare
def test_a_target_that_is_a_cluster(server: StartServer, cluster: StartCluster, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=TELLS), cluster("redis-7.0")
    fill(source.client(), 2000)
    with Traffic(source, clients=2, rate=1500, mix="unswapped", databases=(0,)):
        run = ferry(source, target, config=FOLLOWED + "[databases]\n0 = 0\n")
        run.wait_phase("synchronizing")
        run.kill("stream worker", child=True)
        source.client().delete(*source.client().keys("t:set:*"))  # nobody listens
        until(lambda: passes(run), "it has compared all keys")
    quiet(run, source, target)
    until(lambda: not differences(source.client(), target.client()), "equal", timeout=20)


def test_databases_that_are_merged(server: StartServer, ferry: StartFerry) -> None:
    """A key that one of them has no more may be another's on the target."""
    source, target = server("redis-7.0", config=TELLS), server("redis-7.0")
    one, two = source.client(db=1), source.client(db=2)
    one.mset({f"k:{n}": 1 for n in range(200)})
    two.mset({f"l:{n}": 2 for n in range(200)})
    run = ferry(source, target, config=FOLLOWED + "[databases]\n0 = 0\n1 = 5\n2 = 5\n")
    run.wait_in_sync()
    for n in range(100):
        one.delete(f"k:{n}")
        two.set(f"k:{n}", 3)
    two.delete("l:0")
    one.set("both", 1)
    two.set("both", 2)
    quiet(run, source, target)
    one.delete("both")
    quiet(run, source, target)
    there = target.client(db=5)
    assert there.getdel("both") == b"2"
    wanted = {f"k:{n}".encode(): b"3" if n < 100 else b"1" for n in range(200)}
    wanted |= {f"l:{n}".encode(): b"2" for n in range(1, 200)}
    assert dict(zip(there.keys(), there.mget(there.keys()), strict=True)) == wanted


@pytest.mark.rare
def test_a_target_that_is_a_cluster_and_not_equally_far_everywhere(
    server: StartServer, cluster: StartCluster, ferry: StartFerry
) -> None:
    """The source rests: nothing that comes later tells a part where to go on."""
    source, target = server("redis-7.0", config=TELLS), cluster("redis-7.0")
    client = source.client()
    client.mset({f"n{number}": number for number in range(300)})
    run = ferry(source, target, config=FOLLOWED + "[databases]\n0 = 0\n")
    run.wait_in_sync()
    for _ in range(3):
        for number in range(30):
            client.set("{one}n", number)  # what is another part's is in its checkpoint a while later
        run.kill("stream worker", child=True)
        client.delete("n1", "n2")
        at = len(run.lines)
        until(lambda at=at: any(line["in_sync"] for line in run.lines[at:]), f"in sync\n{run.report()}", timeout=40)  # type: ignore[misc]
        until(lambda: not differences(client, target.client()), "equal", timeout=20)
    assert run.rows("SELECT gen FROM node") == [{"gen": 1}], "nothing was read anew"
