"""A broker of each kind is lost under traffic, comes back, is emptied: streams go on, and so does what is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_tasks import Client, Task
from sync_tasks.broker_url import read
from sync_tasks.errors import ControlError, Retry
from sync_tasks.names import QUEUE_STREAM
from sync_tasks.supervise import reach
from tests.dataset import fill
from tests.hosts import Installation
from tests.scenarios.brokers.kinds import KINDS, Kind, Rabbit
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.slow import RAW, bulk, slowed
from tests.traffic import Traffic
from tests.waiting import seconds_until, until

OUTAGE_S = 1.5
MOVES_WITHIN_S = 40.0
"""Celery connects again after 2 s, then 4, 6, 8."""


@pytest.fixture(params=list(KINDS))
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Kind, str]]:
    """One of each kind, and its URL."""
    made = KINDS[request.param]()
    with made.running(tmp_path) as url:
        yield made, url


@pytest.fixture
def here(
    tmp_path: Path, database_url: str, broker: tuple[Kind, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    with Installation(tmp_path / "hosts", database_url, broker[1]) as made:
        for name, value in made.settings.items():
            monkeypatch.setenv(name, value)
        yield made


def test_nothing_is_lost(broker: tuple[Kind, str], here: Installation, server: StartServer) -> None:
    made, _ = broker
    if isinstance(made, Rabbit):
        nobody_is_let_in(made.wrong())
        made.node.classic(QUEUE_STREAM)
        nobody_is_let_in({made.node.url(): "broker-queues"})
        made.node.delete(QUEUE_STREAM)
    pairs = [(server("redis-7.0"), server("redis-7.0")) for _ in range(2)]
    for source, _ in pairs:
        fill(source.client(), 300)
    control = here.controlled()
    a, b = here.host("a"), here.host("b")
    a.start("worker", "--stream", "1")
    a.start("worker", "--load", "1")
    flower = control.start("flower")

    with Client() as client, Traffic(pairs[0][0], clients=1, rate=500), Traffic(pairs[1][0], clients=1, rate=500):
        first, second = (client.create(source.url(), target.url()) for source, target in pairs)
        client.start(first)
        until(lambda: client.progress(first).in_sync, "in sync")
        if isinstance(made, Rabbit):
            until(lambda: made.node.consumers(QUEUE_STREAM) == 0, "a worker that is busy leaves messages to others", 10)

        def applied() -> int:
            return client.progress(first).applied_offset or 0

        def again() -> None:
            """Suspend and resume it: that takes a message."""
            client.suspend(first, receive=False)
            client.resume(first)
            before = applied()
            took = seconds_until(lambda: applied() > before, "it is resumed", MOVES_WITHIN_S)
            print(f"resumed after {took:.1f} s")

        made.lose()
        before = applied()
        time.sleep(OUTAGE_S)
        assert applied() > before, "the stream needs no broker once it runs"
        made.come_back()
        again()
        made.empty()
        again()
        b.start("worker", "--stream", "1")
        b.start("worker", "--load", "1")
        client.start(second)
        took = seconds_until(lambda: client.progress(second).in_sync, "a second task, by whoever is free")
        print(f"a second task in sync after {took:.1f} s")
        until(lambda: "stream.follow" in {t["name"] for t in here.flower("/api/tasks").values()}, "Flower sees it")
        both = first, second

    for task, (source, target) in zip(both, pairs, strict=True):
        settle(client, task, source)
        equal(source, target)
        assert snapshots(source) == 1
    ended = [p.words for host in (control, a, b) for p in host.processes if p.popen.poll() is not None]
    assert not ended, f"the broker was lost, and these ended: {ended}\n{here.report()}"
    assert "s3cret" not in here.report()
    assert [process.stop() for process in b.processes] == [0, 0], b.report()
    assert flower.stop() == 143


def test_it_is_emptied_in_mid_load(broker: tuple[Kind, str], here: Installation, server: StartServer) -> None:
    made, _ = broker
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 300)
    bulk(source, 10_000)
    here.controlled()
    a = here.host("a")
    a.start("worker", "--stream", "1")
    a.start("worker", "--load", "1")

    def chunks(state: str) -> set[int]:
        return {row["id"] for row in here.rows("chunk") if row["state"] == state}

    with Client() as client, Traffic(source, clients=1, rate=500):
        task = client.create(source.url(), target.url())
        with slowed(target):
            client.start(task)
            until(lambda: chunks("running") and len(chunks("ready")) > 3, "chunks that wait")
            made.empty()
            waiting = chunks("ready")
            took = seconds_until(lambda: chunks("done") & waiting, "the next chunk", MOVES_WITHIN_S)
            print(f"the next chunk was done {took:.1f} s later")
        until(lambda: client.progress(task).in_sync, "in sync")
    settle(client, task, source)
    equal(source, target)
    assert snapshots(source) == 1


def nobody_is_let_in(urls: dict[str, str]) -> None:
    """By these; each with its own error, which ends a worker at its start."""
    for url, code in urls.items():
        with pytest.raises(ControlError) as caught:
            reach.look(read(url))
        assert (caught.value.code, caught.value.retry) == (code, Retry.FATAL), caught.value.line()
        assert "s3cret" not in caught.value.line()


def settle(client: Client, task: Task, source: Server) -> None:
    """All that was written is on the target."""
    end = int(source.client().info("replication")["master_repl_offset"])
    until(lambda: (client.progress(task).applied_offset or 0) >= end and client.progress(task).in_sync, "all applied")
