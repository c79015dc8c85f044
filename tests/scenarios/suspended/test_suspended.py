"""A task rests while its source writes more than its backlog holds: the stream goes to disk, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_tasks import Client, Event, Task
from sync_tasks.progress import NodeProgress
from tests.dataset import fill
from tests.run_up import Up
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until

BACKLOG = 1 << 20  # bytes
BLOCK = 1 << 16
RATE = 200  # commands a second: while a killed worker is replaced, fewer bytes than the backlog holds
CONFIG = {"repl-backlog-size": str(BACKLOG)}
PATIENCE_S = 90.0


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path / "state", "--stream", "2") as made:
        made.wait_ready()
        yield made


@pytest.fixture
def client(service: Up) -> Iterator[Client]:
    with Client(service.state) as made:
        yield made


def everything(server: Server) -> dict[tuple[int, bytes], bytes | None]:
    """Every key with its value as the server dumps it, ours too: the checkpoint changes with every write of ours."""
    found: dict[tuple[int, bytes], bytes | None] = {}
    for db in range(16):
        with server.client(db=db) as reader:
            found.update({(db, key): reader.dump(key) for key in reader.scan_iter(count=1000)})
    return found


def offset(source: Server) -> int:
    return int(source.client().info("replication")["master_repl_offset"])


def replicas(source: Server) -> int:
    return int(source.client().info("replication")["connected_slaves"])


def node(client: Client, task: Task) -> NodeProgress:
    (only,) = client.progress(task).nodes
    return only


def received(client: Client, task: Task, source: Server) -> None:
    """All that the source has written until now is on disk."""
    end = offset(source)
    until(lambda: (node(client, task).received_offset or 0) >= end, "it is on disk", PATIENCE_S)


def write_blocks(client: Client, task: Task, source: Server, size: int) -> None:
    """Several times what the backlog holds, in pieces which the backlog holds."""
    with source.client() as writer:
        for number in range(size // BLOCK):
            writer.append(f"block:{number % 7}", os.urandom(BLOCK))
            if number % 8 == 7:
                received(client, task, source)


def about_receiving(client: Client, task: Task) -> list[Event]:
    return [event for event in client.events(task) if event.kind == "receiving"]


def failures(client: Client, task: Task) -> list[str]:
    return [event.text for event in client.events(task) if event.kind == "retry"]


def started(client: Client, source: Server, target: Server) -> Task:
    task = client.create(source.url(), target.url(), name="orders-move")
    client.start(task, wait_s=PATIENCE_S)
    until(lambda: client.progress(task).in_sync, "in sync", PATIENCE_S)
    return task


def settled(client: Client, task: Task, source: Server) -> None:
    end = offset(source)
    until(
        lambda: client.progress(task).in_sync and (client.progress(task).applied_offset or 0) >= end,
        "in sync again",
        PATIENCE_S,
    )


def test_it_goes_on_from_disk(service: Up, client: Client, server: StartServer) -> None:
    source, target = server("redis-7.0", config=CONFIG), server("redis-7.0")
    fill(source.client(), 300)
    with Traffic(source, clients=2, rate=RATE):
        task = started(client, source, target)

        client.suspend(task, PATIENCE_S)
        before = everything(target)
        write_blocks(client, task, source, 4 * BACKLOG)
        assert (node(client, task).on_disk_bytes or 0) > 3 * BACKLOG
        assert everything(target) == before
        client.resume(task, PATIENCE_S)
        settled(client, task, source)

        client.suspend(task, PATIENCE_S)
        before, at_rest = everything(target), node(client, task)
        write_blocks(client, task, source, 3 * BACKLOG)
        service.kill("stream worker")
        until(lambda: node(client, task).epoch > at_rest.epoch, "the stream's next owner", PATIENCE_S)
        received(client, task, source)
        write_blocks(client, task, source, 3 * BACKLOG)
        events = client.events(task)
        client.suspend(task, PATIENCE_S)
        assert client.events(task) == events, "it is so already"
        now = node(client, task)
        assert now.receiving
        assert now.applied_offset == at_rest.applied_offset
        assert (now.on_disk_bytes or 0) > 5 * BACKLOG
        assert everything(target) == before, "written while it was suspended"
        client.resume(task, PATIENCE_S)
    settled(client, task, source)
    equal(source, target)
    assert snapshots(source) == 1
    assert failures(client, task) == []


def test_at_the_limit_the_link_is_closed(client: Client, server: StartServer) -> None:
    source, target = server("redis-7.0", config=CONFIG), server("redis-7.0")
    fill(source.client(), 300)
    task = started(client, source, target)
    client.suspend(task, PATIENCE_S, limit_bytes=3 * BACKLOG)
    before = everything(target)
    assert (replicas(source), node(client, task).receiving) == (1, True)

    written = 0
    with source.client() as writer:
        while replicas(source):
            written += 1
            assert written < 200, "the link stays open"
            writer.append(f"block:{written % 7}", os.urandom(BLOCK // 2))
            end = offset(source)
            until(lambda end=end: not replicas(source) or (node(client, task).received_offset or 0) >= end)  # type: ignore[misc]
    until(lambda: about_receiving(client, task), "it is said")
    (said,) = about_receiving(client, task)
    assert "the limit is 3.0 MiB" in said.text
    assert "the link to the source is closed" in said.text
    at_end = node(client, task)
    assert not at_end.receiving
    assert 3 * BACKLOG <= (at_end.on_disk_bytes or 0) < 4 * BACKLOG
    client.suspend(task, PATIENCE_S, limit_bytes=3 * BACKLOG)
    assert about_receiving(client, task) == [said], "the limit is reached: there is nothing to do"
    assert client.get(task).state == "suspended"
    assert everything(target) == before

    source.client().set("written", os.urandom(BLOCK))
    client.resume(task, PATIENCE_S)
    settled(client, task, source)
    equal(source, target)
    assert snapshots(source) == 1
    assert failures(client, task) == []


def test_a_stream_that_stops_closes_its_link(client: Client, server: StartServer) -> None:
    source, target = server("redis-7.0", config=CONFIG), server("redis-7.0")
    fill(source.client(), 100)
    task = started(client, source, target)
    client.suspend(task, PATIENCE_S)
    assert replicas(source) == 1
    client.suspend(task, PATIENCE_S, receive=False)
    until(lambda: not replicas(source), "the link is closed", PATIENCE_S)
    assert not node(client, task).receiving
    source.client().set("written", "meanwhile")
    client.suspend(task, PATIENCE_S)
    until(lambda: replicas(source), "the link is back", PATIENCE_S)
    received(client, task, source)
    assert target.client().get("written") is None
    assert client.finish(task, wait_s=PATIENCE_S).state == "finished"
    assert target.client().get("written") == b"meanwhile"
    assert snapshots(source) == 1
    assert failures(client, task) == []
