"""SIGTERM of one host's workers: the stream goes on at the other host, a chunk in mid-load is loaded to its end.

Chunks lie in the spool of the host that received them: whoever takes its load workers away in mid-load puts others
there, as a new version of the program does.
"""

from __future__ import annotations

import time
from typing import Any

from sync_tasks import Client
from sync_tasks.names import node_lease
from tests.dataset import fill
from tests.hosts import Installation
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.slow import RAW, bulk, slowed
from tests.traffic import Traffic
from tests.waiting import until

TAKEN_OVER_WITHIN_S = 5.0
STREAM = node_lease(1)


def settled(client: Client, task: int, source: Server) -> None:
    """All that the source has written until now is on the target, with its expiries."""
    end = int(source.client().info("replication")["master_repl_offset"])
    until(lambda: client.progress(task).in_sync and (client.progress(task).applied_offset or 0) >= end, "in sync")


def test_a_stream_goes_on_at_the_other_host(here: Installation, server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 400)
    here.controlled()
    a, b = here.host("a"), here.host("b")
    follower = a.start("worker", "--stream", "1")
    a.start("worker", "--load", "1")

    with Client() as client:
        task = client.create(source.url(), target.url())
        with Traffic(source, clients=2, rate=1000):
            client.start(task)
            until(lambda: client.progress(task).in_sync, "in sync")
            assert here.owner(STREAM).startswith("a:")
            b.start("worker", "--stream", "1")
            until(lambda: "ready." in b.report(), "the other host's worker")

            follower.ask()
            until(lambda: not here.owner(STREAM).startswith("a:"), "the stream ends at a checkpoint")
            ended = time.monotonic()
            until(lambda: here.owner(STREAM).startswith("b:"), "the stream's new owner", TAKEN_OVER_WITHIN_S)
            print(f"taken over {time.monotonic() - ended:.2f} s after its end")
            assert follower.popen.wait(20) == 0, here.report()
        settled(client, task, source)
    equal(source, target)
    assert snapshots(source) == 1


def in_hand(here: Installation) -> dict[str, Any] | None:
    """A chunk of some length that is being loaded."""
    return next((row for row in here.rows("chunk") if row["state"] == "running" and row["keys"] > 500), None)


def test_a_chunk_is_loaded_to_its_end(here: Installation, server: StartServer) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 400)
    bulk(source, 10_000)
    here.controlled()
    a, b = here.host("a"), here.host("b")
    a.start("worker", "--stream", "1")
    loader = a.start("worker", "--load", "1")
    b.start("worker", "--load", "1")
    until(lambda: here.report().count("ready.") == 3, "three workers")

    with Client() as client:
        task = client.create(source.url(), target.url())
        with Traffic(source, clients=1, rate=500):
            with slowed(target):
                client.start(task)
                held = until(lambda: in_hand(here), "a chunk in mid-load")
                assert loader.stop() == 0, here.report()
                (now,) = (row for row in here.rows("chunk") if row["id"] == held["id"])
                assert (now["state"], now["epoch"]) == ("done", held["epoch"]), "it was not loaded to its end"
            left = [row["id"] for row in here.rows("chunk") if row["state"] != "done"]
            assert left, "the load was over before the worker was"
            assert not [row for row in here.rows("chunk") if row["id"] in left and row["epoch"]], "not in b's spool"
            a.start("worker", "--load", "1")
            until(lambda: client.progress(task).in_sync, "in sync")
        settled(client, task, source)
        assert {row["epoch"] for row in here.rows("chunk")} == {1}, "a chunk was loaded twice"
    equal(source, target)
    assert snapshots(source) == 1


def test_a_stream_worker_is_replaced_in_mid_load(here: Installation, server: StartServer) -> None:
    """Another host could only begin anew: the chunks and the log are not in its spool."""
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 400)
    bulk(source, 10_000)
    here.controlled()
    a, b = here.host("a"), here.host("b")
    follower = a.start("worker", "--stream", "1")
    a.start("worker", "--load", "1")
    until(lambda: a.report().count("ready.") == 2, "the first host's workers")

    with Client() as client:
        task = client.create(source.url(), target.url())
        with Traffic(source, clients=1, rate=500):
            with slowed(target):
                client.start(task)
                until(lambda: here.owner(STREAM).startswith("a:"), "the stream's owner")
                b.start("worker", "--stream", "1")
                until(lambda: "ready." in b.report(), "the other host's worker")
                until(lambda: here.rows("node")[0]["snapshot_done"] and in_hand(here), "the middle of the load")
                assert follower.stop() == 0, here.report()
                assert any(row["state"] != "done" for row in here.rows("chunk")), "the load was over before"
                a.start("worker", "--stream", "1")
            until(lambda: client.progress(task).in_sync, "in sync")
        assert here.owner(STREAM).startswith("a:")
        settled(client, task, source)
    equal(source, target)
    assert snapshots(source) == 1
