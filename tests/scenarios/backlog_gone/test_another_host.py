"""A host with a spool of its own that took the stream over: it finds out by itself which keys were brought before."""

from __future__ import annotations

from sync_tasks import Client
from sync_tasks.names import node_lease
from tests.dataset import fill
from tests.hosts import Host, Installation
from tests.scenarios.backlog_gone.test_backlog_gone import SMALL, overrun
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.traffic import Traffic
from tests.waiting import until


def test_what_was_deleted_goes(here: Installation, server: StartServer) -> None:
    """Whether the first host brought it, or the second; the target's own stays."""
    # Enough for the time that the second host takes, however busy the machine is.
    source, target = server("redis-7.0", config={"repl-backlog-size": "2mb"}), server("redis-7.0")
    fill(source.client(), 400)
    mine, there = source.client(db=2), target.client(db=2)
    mine.mset({f"old:{i}": i for i in range(500)})
    here.controlled()

    def begin(host: Host) -> None:
        host.start("worker", "--stream", "1")
        host.start("worker", "--load", "1")

    a, b = here.host("a"), here.host("b")
    begin(a)
    with Client() as client:
        task = client.create(source.url(), target.url())

        def settled() -> None:
            end = int(source.client().info("replication")["master_repl_offset"])
            until(lambda: client.progress(task).in_sync and (client.progress(task).applied_offset or 0) >= end, "equal")

        # Databases that are swapped twelve times a second would keep the list away for as long as that lasts.
        with Traffic(source, clients=2, rate=500, mix="unswapped"):
            client.start(task)
            until(lambda: client.progress(task).in_sync, "in sync")
            begin(b)
            until(lambda: b.report().count("ready.") == 2, "the other host's workers")
            a.kill()
            until(lambda: here.owner(node_lease(1)).startswith("b:"), "the stream's new owner")
            mine.delete(*(f"old:{i}" for i in range(100)))
            mine.mset({f"new:{i}": i for i in range(500)})
            until(lambda: any(e.kind == "listed" for e in client.events(task)), "the list is made anew")
        settled()

        there.mset({f"own:{i}": i for i in range(100)})
        b.kill()
        mine.delete(*(f"{name}:{i}" for name in ("old", "new") for i in range(100, 400)))
        overrun(source)
        begin(b)
        until(lambda: snapshots(source) == 2, "a full sync in place")
        settled()
    assert there.delete(*(f"own:{i}" for i in range(100))) == 100
    equal(source, target)


def test_what_nobody_can_tell(here: Installation, server: StartServer) -> None:
    """The host dies with what it alone knew, and the source no longer has the stream: the task stops, says why, and
    has removed nothing. It begins anew with an empty target."""
    source, target = server("redis-7.0", config=SMALL), server("redis-7.0")
    fill(source.client(), 200)
    here.controlled()
    a, b = here.host("a"), here.host("b")
    for host in (a, b):
        host.start("worker", "--load", "1")
    a.start("worker", "--stream", "1")
    with Client() as client:
        task = client.create(source.url(), target.url())
        client.start(task)
        until(lambda: client.progress(task).in_sync, "in sync")
        a.kill()
        before = target.client(db=1).dbsize()
        assert before > 0
        source.client(db=1).flushdb()
        overrun(source)
        b.start("worker", "--stream", "1")
        until(lambda: here.rows("task")[0]["state"] == "failed", "it stops")
        error = client.get(task).error
        assert error is not None
        assert error.code == "cannot-continue"
        assert "restart the task with an empty target" in error.hint
        assert here.rows("node")[0]["gen"] == 1, "no other snapshot is loaded"
        assert target.client(db=1).dbsize() == before
        target.client().flushall()
        client.restart(task)
        until(lambda: client.progress(task).in_sync, "in sync again")
    equal(source, target)
