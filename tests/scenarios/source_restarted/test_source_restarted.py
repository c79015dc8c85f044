"""A source 7.0 restarted with SHUTDOWN SAVE knows its replication id and offset: the stream goes on."""

from __future__ import annotations

import time

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.traffic import Traffic


def test_no_new_snapshot(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config={"shutdown-timeout": "2"}), server("redis-7.0")
    fill(source.client(), 1000)

    with Traffic(source, clients=4, rate=2000):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(1)
        source.stop(save=True)
        run.wait_retry("source")
        source.start()
        run.wait_for(lambda line: line["retry"] is None, 45, what="no retry window")
        time.sleep(1)
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 0, "since its restart the source sent no snapshot"


def test_without_its_stream(server: StartServer, ferry: StartFerry) -> None:
    """It was killed, and is of a version that then begins another stream, whose offsets are far behind those before."""
    source, target = server("redis-6.2"), server("redis-6.2")
    fill(source.client(), 500)
    run = ferry(source, target)
    run.wait_in_sync()
    client = source.client()
    for number in range(200):
        client.rpush("list", number)
        client.set("pad", b"x" * 10_000)
    run.settle(source)
    before = run.last["applied_offset"]
    client.delete("gone", "list:0")
    client.save()
    client.rpush("list", "lost with the kill")
    source.kill()
    source.start()
    client = source.client()
    client.incr("n")
    run.wait_for(lambda line: (line["applied_offset"] or before) < before and line["in_sync"], what="another stream")
    for _ in range(100):
        client.rpush("list", "more")
    assert client.execute_command("WAIT", 1, 10_000) == 1
    assert target.client().llen("list") == 300, "what is acknowledged is there"
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 1, "since it was restarted"
