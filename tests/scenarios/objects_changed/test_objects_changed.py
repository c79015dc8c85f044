"""What a running task copies is changed under traffic: a database comes in, one goes, a filter is changed."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sync_tasks import Client, KeyferryError, Task
from tests.dataset import fill
from tests.run_up import Up
from tests.scenarios.judge import equal, snapshots
from tests.scoped import alone, scope_of
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until

PATIENCE_S = 90.0
MANY = 60_000  # keys that take some seconds to be added


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path / "state", "--stream", "2") as made:
        made.wait_ready()
        yield made
        print(made.report())


@pytest.fixture
def client(service: Up) -> Iterator[Client]:
    with Client(service.state) as made:
        yield made
        for task in made.list():
            print(made.progress(task), *made.events(task), sep="\n")


@contextmanager
def wandering(source: Server, databases: tuple[int, ...]) -> Iterator[None]:
    """Keys of their own go from database to database, by MOVE, COPY, RENAME and in transactions."""
    over, errors = threading.Event(), list[BaseException]()

    def wander() -> None:
        rng = random.Random(7)
        here = {db: source.client(db=db) for db in databases}
        while not over.wait(0.02):
            one, two = rng.sample(databases, 2)
            key, other = f"w:{rng.randrange(40)}", f"w:{rng.randrange(40)}"
            kind = rng.randrange(5)
            with here[one].pipeline(transaction=kind == 0) as pipe:
                pipe.rpush(key, rng.randrange(1000)).incr(f"n:{rng.randrange(40)}")
                if kind == 1:
                    pipe.move(key, two)
                elif kind == 2:
                    pipe.copy(key, other, destination_db=two, replace=True)
                elif kind == 3:
                    pipe.rename(key, other)
                elif kind == 4:
                    pipe.execute_command("SELECT", two)
                    pipe.incr(f"n:{rng.randrange(40)}").lpop(key)
                    pipe.execute_command("SELECT", one)
                pipe.execute(raise_on_error=False)

    def run() -> None:
        try:
            wander()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not errors, errors


def many(source: Server, db: int, prefix: str = "many") -> None:
    with source.client(db=db) as client, client.pipeline(transaction=False) as pipe:
        for number in range(MANY):
            pipe.set(f"{prefix}:{number}", number)
        pipe.execute()


def kinds(client: Client, task: Task) -> list[str]:
    return [event.kind for event in client.events(task)]


def offset(source: Server) -> int:
    return int(source.client().info("replication")["master_repl_offset"])


def settled(client: Client, task: Task, source: Server) -> None:
    end = offset(source)

    def is_settled() -> bool:
        found = client.progress(task)
        return found.in_sync and (found.applied_offset or 0) >= end

    until(is_settled, "in sync with all of it", PATIENCE_S)


def rejected(client: Client, task: Task, **settings: object) -> str:
    """The code by which a change is refused, and that nothing has changed."""
    before = client.get(task).settings
    with pytest.raises(KeyferryError) as caught:
        client.modify(task, **settings)  # type: ignore[call-overload]
    assert client.get(task).settings == before
    return caught.value.code


@pytest.mark.parametrize(("source_kind", "target_kind"), [("redis-7.0", "redis-7.0"), ("valkey-9.1", "valkey-9.1")])
def test_a_database_comes_in_and_another_goes(
    source_kind: str, target_kind: str, service: Up, client: Client, server: StartServer
) -> None:
    source, target = server(source_kind), server(target_kind)
    fill(source.client(), 900, dbs=(0, 1, 2))
    many(source, 2)
    two = target.client(db=2)
    with Traffic(source, clients=3, rate=1500, mix="all", databases=(0, 1, 2)) as traffic, wandering(source, (0, 1, 2)):
        task = client.create(source.url(), target.url(), databases={0: 0, 1: 1})
        client.start(task, wait_s=PATIENCE_S)
        until(lambda: "synchronizing" in kinds(client, task), "it streams", PATIENCE_S)
        assert not two.dbsize()
        two.set("foreign", 1)
        assert rejected(client, task, databases={0: 0, 1: 1, 2: 2}) == "target-not-empty"
        two.delete("foreign")

        client.modify(task, databases={0: 0, 1: 1, 2: 2}, wait_s=PATIENCE_S)
        until(lambda: two.dbsize() > MANY // 5, "it is being copied", PATIENCE_S)
        service.kill("stream worker", child=True)
        assert not client.progress(task).in_sync
        until(lambda: "added" in kinds(client, task), "it is in scope", PATIENCE_S)
        begun = two.dbsize()
        assert begun > MANY

        client.modify(task, databases={0: 0, 2: 2})
        until(lambda: "narrowed" in kinds(client, task), "the other is let go", PATIENCE_S)
        one = target.client(db=1)
        left = {key: one.dump(key) for key in one.scan_iter(count=1000)}
        assert len(left) > 100
    assert traffic.written > 1000
    settled(client, task, source)
    assert {key: one.dump(key) for key in one.scan_iter(count=1000)} == left, "it is as it was"
    assert snapshots(source) == 1
    assert client.get(task).error is None
    client.suspend(task, PATIENCE_S, receive=False)
    one.flushdb()
    with alone(source, scope_of('databases = { "0" = 0, "2" = 2 }')):
        equal(source, target)


def test_a_filter_is_widened_and_narrowed(service: Up, client: Client, server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 900, dbs=(0,))
    many(source, 0, "w:many")
    block = ["t:list", "t:set:2", "t:str:3", "t:hash:1", "w:", "s:"]
    less = ["t:list:1", "t:set", "t:str:3", "t:hash:1"]
    with Traffic(source, clients=3, rate=1500, mix="all", databases=(0,)), wandering(source, (0, 3)):
        task = client.create(source.url(), target.url(), databases={0: 0}, filter={"block_prefixes": block})
        client.start(task, wait_s=PATIENCE_S)
        until(lambda: "synchronizing" in kinds(client, task), "it streams", PATIENCE_S)
        client.modify(task, filter={"block_prefixes": less}, wait_s=PATIENCE_S)
        until(lambda: target.client().exists("w:many:1", "w:many:7", "w:many:9999"), "it is copied", PATIENCE_S)
        service.kill("stream worker", child=True)
        until(lambda: "added" in kinds(client, task), "it is in scope", PATIENCE_S)
    settled(client, task, source)
    assert "narrowed" in kinds(client, task)
    assert snapshots(source) == 1
    client.suspend(task, PATIENCE_S, receive=False)
    for key in target.client().scan_iter("t:set*", count=1000):
        target.client().delete(key)  # as it was when it was let go
    with alone(source, scope_of(f"databases = {{ '0' = 0 }}\n[filter]\nblock_prefixes = {less}".replace("'", '"'))):
        equal(source, target)


def test_a_task_that_rests_takes_it_up_when_it_is_resumed(
    service: Up, client: Client, server: StartServer
) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 600, dbs=(0, 1))
    with Traffic(source, clients=2, rate=400, mix="counters", databases=(0, 1)):
        task = client.create(source.url(), target.url(), databases={1: 1})
        client.start(task, wait_s=PATIENCE_S)
        until(lambda: "synchronizing" in kinds(client, task), "it streams", PATIENCE_S)
        client.suspend(task, PATIENCE_S)
        client.modify(task, databases={0: 0}, wait_s=PATIENCE_S)
        assert not target.client().dbsize()
        client.modify(task, databases={0: 0, 1: 1}, wait_s=PATIENCE_S)
        client.resume(task, PATIENCE_S)
        until(lambda: "added" in kinds(client, task), "it is in scope", PATIENCE_S)
    settled(client, task, source)
    assert snapshots(source) == 1
    assert target.client(db=1).exists(f"keyferry:{client.get(task).uid}:0:ck"), "our own keys stay where they were"
    equal(source, target)
