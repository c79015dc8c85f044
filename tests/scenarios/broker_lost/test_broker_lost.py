"""The broker cuts all its connections, or dies with the messages in it: the database knows what is to be done."""

from __future__ import annotations

import time

import redis

from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import RAW, bulk, slowed
from tests.traffic import Traffic
from tests.waiting import until

GOES_ON_WITHIN_S = 10.0  # an empty queue is asked after 5 s; workers connect again after 2 s, then 4
CUTS = 3


def cut(run: Keyferry) -> int:
    """Close every connection to the broker; how many there were."""
    with redis.Redis(unix_socket_path=str(run.state / "broker.sock")) as client:
        kinds = ("normal", "pubsub")
        return sum(int(client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")) for kind in kinds)


def in_state(run: Keyferry, state: str) -> set[int]:
    """Chunks by what the database says of them."""
    return {chunk["id"] for chunk in run.chunks() if chunk["state"] == state}


def goes_on(run: Keyferry, waiting: set[int]) -> None:
    """One of the chunks that waited is loaded in time."""
    began = time.monotonic()
    until(lambda: in_state(run, "done") & waiting, "the next chunk", GOES_ON_WITHIN_S)
    print(f"the next chunk was done {time.monotonic() - began:.2f} s later")


def test_connections_are_cut_in_follow(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 400)

    with Traffic(source, clients=2, rate=1000):
        run = ferry(source, target)
        epoch = run.wait_in_sync()["nodes"][0]["epoch"]
        for _time in range(CUTS):
            assert cut(run) > 2
            offset = run.last["applied_offset"]
            run.wait_for(lambda line, offset=offset: line["applied_offset"] > offset, 5.0, what="it goes on")
        assert run.last["nodes"][0]["epoch"] == epoch, "the stream needs no broker once it runs"
        run.kill("stream worker", child=True)
        run.wait_for(lambda line: line["nodes"][0]["epoch"] > epoch, GOES_ON_WITHIN_S, what="its next message arrives")
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 1


def test_connections_are_cut_in_mid_load(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 400)
    bulk(source, 10_000)

    with Traffic(source, clients=1, rate=500):
        with slowed(target):
            run = ferry(source, target, load_workers=1)
            run.wait_for(lambda line: line["keys_done"], what="a first chunk's keys")
            waiting = until(lambda: in_state(run, "ready"), "chunks that wait")
            assert cut(run) > 2
            goes_on(run, waiting)
        run.wait_in_sync()
    run.settle(source)

    assert {chunk["epoch"] for chunk in run.chunks()} == {1}, "who loads a chunk needs no broker"
    equal(source, target)
    assert snapshots(source) == 1


def test_it_dies_with_chunks_in_its_queue(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 400)
    bulk(source, 10_000)

    with Traffic(source, clients=1, rate=500):
        with slowed(target):
            run = ferry(source, target, load_workers=1)
            run.wait_for(lambda line: line["keys_done"], what="a first chunk's keys")
            until(lambda: len(in_state(run, "ready")) > 3, "chunks that wait")
            run.kill("broker")
            goes_on(run, in_state(run, "ready"))
        run.wait_in_sync()
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 1
