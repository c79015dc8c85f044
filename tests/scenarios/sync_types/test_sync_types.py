"""A task that only copies ends by itself; one that only follows copies nothing, and begins where the source stood."""

from __future__ import annotations

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, verified
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until

FULL = 'sync_types = ["full"]\n'
INCREMENTAL = 'sync_types = ["incremental"]\n'


def test_full_alone(server: StartServer, ferry: StartFerry) -> None:
    """What is there, and what was written while it was copied; then the target is closed to the task."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 2000)
    with Traffic(source, clients=2, rate=500):
        run = ferry(source, target, config=FULL)
        assert run.wait(60) == 0, run.report()
        assert run.lines[-1]["phase"] == "finished"
    source.client().set("later", 1)
    again = ferry(source, target, config=FULL)
    assert again.wait(60) == 2
    assert "finished: it never writes to the target again" in again.errors
    assert not target.client().exists("later")


def test_full_alone_of_a_source_at_rest(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("valkey-9.1"), server("redis-7.0")
    source.client().mset({f"k:{n}": n for n in range(1000)})
    source.client().set("timed", 1, pxat=4_000_000_000_000)
    assert ferry(source, target, config=FULL).wait(60) == 0
    verified(source, target, extended_ms=0)


def copied(source: Server, target: Server) -> None:
    """What a user has copied before, by whatever means."""
    for side in (source, target):
        side.client().mset({f"old:{n}": n for n in range(500)})
        side.client().rpush("old:list", *range(10))


def test_incremental_alone(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    copied(source, target)
    source.client().set("untouched", "only here")
    run = ferry(source, target, config=INCREMENTAL)
    run.wait_in_sync()
    source.client().incr("old:7")
    source.client().rpush("old:list", "new")
    run.kill("stream worker", child=True)
    source.client().incr("old:7")
    source.client().set("new", 1)
    run.settle(source)
    there = target.client()
    assert (there.get("old:7"), there.get("new"), there.llen("old:list")) == (b"9", b"1", 11)
    assert not there.exists("untouched"), "nothing was loaded"
    assert run.lines[-1]["keys_total"] == 0


def test_incremental_alone_of_all_that_is_written(server: StartServer, ferry: StartFerry) -> None:
    """Both begin empty: what is written from the start on is all there is."""
    source, target = server("valkey-9.1"), server("valkey-9.1")
    run = ferry(source, target, config=INCREMENTAL)
    run.wait_in_sync()
    with Traffic(source, clients=2, rate=1000, mix="uncopied-9"):
        until(lambda: target.client().dbsize() > 50, "it follows")
        run.kill("stream worker", child=True)
        until(lambda: run.lines[-1]["in_sync"], "in sync again", 60)
    run.settle(source)
    equal(source, target)


def test_it_never_loads(server: StartServer, ferry: StartFerry) -> None:
    """A source that no longer has the stream ends a task that must not load."""
    source = server("redis-7.0", config={"repl-backlog-size": "16kb"})
    target = server("redis-7.0")
    run = ferry(source, target, config=INCREMENTAL)
    run.wait_in_sync()
    assert run.stop() == 130
    for n in range(200):
        source.client().set(f"k:{n}", "x" * 1000)
    again = ferry(source, target, config=INCREMENTAL)
    assert again.wait(60) == 3
    assert "this task does not load" in again.errors
    assert target.client().dbsize() < 10
