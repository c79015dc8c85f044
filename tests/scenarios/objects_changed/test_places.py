"""What is added comes to a place on the target where something is: another database's keys, or the target's own."""

from __future__ import annotations

import threading
from typing import Any

from sync_tasks import Client, Task
from tests.run_up import Up
from tests.scenarios.objects_changed.test_objects_changed import (  # noqa: F401
    PATIENCE_S,
    client,
    kinds,
    service,
    settled,
)
from tests.servers import Server, StartServer
from tests.waiting import until

MANY = 20_000


def streaming(client: Client, source: Server, target: Server, **settings: object) -> Task:  # noqa: F811
    task = client.create(source.url(), target.url(), databases={0: 0}, **settings)  # type: ignore[arg-type]
    client.start(task, wait_s=PATIENCE_S)
    until(lambda: "synchronizing" in kinds(client, task), "it streams", PATIENCE_S)
    return task


def become(client: Client, task: Task, databases: dict[int, int]) -> None:  # noqa: F811
    client.modify(task, databases=databases, wait_s=PATIENCE_S)
    until(lambda: "added" in kinds(client, task), "it is in scope", PATIENCE_S)


def held(target: Server, db: int) -> dict[bytes, Any]:
    there = target.client(db=db)
    keys = [key for key in there.scan_iter(count=1000) if not key.startswith(b"keyferry:")]
    return dict(zip(keys, there.mget(keys), strict=True)) if keys else {}


def test_keys_move_into_the_other_database_while_one_is_merged(
    service: Up, client: Client, server: StartServer  # noqa: F811
) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().set("a", 1)
    with source.client(db=1).pipeline(transaction=False) as pipe:
        for number in range(MANY):
            pipe.set(f"many:{number}", number)
        pipe.execute()
    over = threading.Event()

    def move() -> None:
        mine, number = source.client(db=1), 0
        while not over.wait(0.05):
            mine.set(f"moved:{number}", number)
            mine.move(f"moved:{number}", 0)
            number += 1

    task = streaming(client, source, target)
    thread = threading.Thread(target=move)
    thread.start()
    try:
        become(client, task, {0: 0, 1: 0})
    finally:
        over.set()
        thread.join()
    settled(client, task, source)
    ours, theirs = ({**held(source, 0), **held(source, 1)}, held(target, 0))
    assert len(ours) > MANY
    assert theirs == ours


def test_another_database_takes_the_place(service: Up, client: Client, server: StartServer) -> None:  # noqa: F811
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().mset({"a": 1, "n": 5})
    source.client(db=1).mset({"c": 3})
    task = streaming(client, source, target)
    become(client, task, {1: 0})
    source.client(db=1).incr("n")
    settled(client, task, source)
    assert held(target, 0) == {b"c": b"3", b"n": b"1"}


def test_a_key_of_the_targets_own_stays(service: Up, client: Client, server: StartServer) -> None:  # noqa: F811
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().set("a", 1)
    target.client(db=1).mset({"x": "own", "y": "own"})
    task = streaming(client, source, target, conflict_mode="ignore-and-proceed")
    source.client(db=1).mset({"c": 3, "x": 1})
    source.client(db=1).delete("x")  # never in scope
    settled(client, task, source)
    become(client, task, {0: 0, 1: 1})
    settled(client, task, source)
    assert held(target, 1) == {b"c": b"3", b"x": b"own", b"y": b"own"}
