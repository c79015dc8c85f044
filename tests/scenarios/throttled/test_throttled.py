"""A task goes no faster than it may, all its workers together, and a change is heard within two seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_tasks import Client
from tests.benchmarks.storm import start_storm
from tests.run_up import Up
from tests.scenarios.judge import equal
from tests.servers import Server, StartServer
from tests.slow import RAW, bulk
from tests.waiting import until

KEYS = 24_000
HEARD_S = 2.0


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Up(tmp_path / "state", "--load", "3", "--stream", "1") as service:
        service.wait_ready()
        with Client(service.state) as made:
            yield made


def commands(target: Server) -> int:
    """How many writes of ours the target has executed."""
    said = target.client().info("commandstats")
    return sum(said.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("set", "restore", "incr"))


def per_second(target: Server, seconds: float) -> float:
    began, before = time.monotonic(), commands(target)
    time.sleep(seconds)
    return (commands(target) - before) / (time.monotonic() - began)


def mb_per_s(target: Server, seconds: float) -> float:
    """What the target receives."""
    client = target.client()
    began, before = time.monotonic(), client.info("stats")["total_net_input_bytes"]
    time.sleep(seconds)
    received = client.info("stats")["total_net_input_bytes"] - before
    return float(received) / 1e6 / (time.monotonic() - began)


@pytest.mark.rare
def test_in_bytes(client: Client, server: StartServer) -> None:
    """The same for MB a second."""
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    bulk(source, KEYS)
    task = client.create(
        source.url(), target.url(), throttle={"full": {"mb_per_s": 4}, "incremental": {"mb_per_s": 0.2}}
    )
    client.start(task)
    until(lambda: commands(target) > 200, "the load begins", 60)
    time.sleep(HEARD_S)
    assert 4 * 0.9 < mb_per_s(target, 6) < 4 * 1.1
    client.modify(task, throttle={"full": {"mb_per_s": -1}})
    until(lambda: client.progress(task).in_sync, "in sync", 10)
    assert start_storm(source, "set", 20_000).wait(30) == 0
    time.sleep(0.5)
    assert 0.2 * 0.85 < mb_per_s(target, 5) < 0.2 * 1.15
    client.modify(task, throttle={"incremental": {"mb_per_s": -1}})
    until(lambda: client.progress(task).in_sync, "in sync again", 15)
    equal(source, target)


def test_load_and_stream(client: Client, server: StartServer) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    bulk(source, KEYS)
    task = client.create(
        source.url(), target.url(),
        throttle={"full": {"target_rps": 1500}, "incremental": {"rps": 500}},
    )  # fmt: skip
    client.start(task)
    until(lambda: commands(target) > 200, "the load begins", 60)
    time.sleep(HEARD_S)  # each loader has heard of the others
    assert 1500 * 0.9 < per_second(target, 6) < 1500 * 1.1
    client.modify(task, throttle={"full": {"target_rps": -1}})
    until(lambda: client.progress(task).in_sync, "in sync", 10)

    writer = start_storm(source, "set", 12_000)
    assert writer.wait(30) == 0
    time.sleep(0.5)
    assert 500 * 0.9 < per_second(target, 4) < 500 * 1.1
    client.modify(task, instance_class="micro")
    time.sleep(HEARD_S)
    assert 200 * 0.85 < per_second(target, 4) < 200 * 1.15
    assert client.get(task).state == "synchronizing", "no shift has ended for it"
    client.modify(task, instance_class="unlimited", throttle={"incremental": {"rps": -1}})
    until(lambda: client.progress(task).in_sync, "in sync again", 15)
    equal(source, target)
