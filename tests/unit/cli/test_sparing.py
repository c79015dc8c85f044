"""A worker whose processes are all at work takes nothing more from RabbitMQ."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state
from celery.worker.consumer import Consumer

from sync_tasks.supervise.sparing import SparingConsumer


class Task:
    """What Celery keeps of a message that it took."""


class TaskConsumer:
    def __init__(self) -> None:
        self.said: list[str] = []

    def cancel(self) -> None:
        self.said.append("cancel")

    queues = ("kf.load", "kf.ops")

    def _basic_consume(self, queue: str, *, no_ack: bool, nowait: bool) -> None:
        assert (no_ack, nowait) == (False, True), "a message that came with the answer would lie until the next turn"
        self.said.append(queue)


class Message:
    def __init__(self) -> None:
        self.requeued = False

    def requeue(self) -> None:
        self.requeued = True


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Messages that were taken and are not done, of a worker of two processes."""
    found: list[Task] = []
    monkeypatch.setattr(state, "reserved_requests", found)
    monkeypatch.setattr(Consumer, "create_task_handler", lambda *_a, **_k: lambda _message: found.append(Task()))
    return found


@pytest.fixture
def consumer(held: list[Task]) -> Any:
    made = SparingConsumer.__new__(SparingConsumer)
    made.pool = SimpleNamespace(num_processes=2)
    made.task_consumer = TaskConsumer()
    return made


def test_it_stops_to_consume_with_the_last_free_process_and_begins_again(consumer: Any, held: list[Task]) -> None:
    take = consumer.create_task_handler()
    take(Message())
    assert consumer.task_consumer.said == []
    take(Message())
    assert consumer.task_consumer.said == ["cancel"]
    consumer._wake()
    assert consumer.task_consumer.said == ["cancel"], "none is free yet"
    held.pop()
    consumer._wake()
    consumer._wake()
    assert consumer.task_consumer.said == ["cancel", "kf.load", "kf.ops"]


def test_what_was_on_its_way_goes_back(consumer: Any, held: list[Task]) -> None:
    take = consumer.create_task_handler()
    for _ in range(2):
        take(Message())
    late = Message()
    take(late)
    assert (late.requeued, len(held)) == (True, 2)
    assert consumer.task_consumer.said == ["cancel"], "once"


def test_after_a_lost_connection_it_begins_anew_though_streams_go_on(consumer: Any, held: list[Task]) -> None:
    take = consumer.create_task_handler()
    for _ in range(2):
        take(Message())
    consumer.task_consumer = TaskConsumer()
    take = consumer.create_task_handler()
    first = Message()
    take(first)
    assert first.requeued
    assert consumer.task_consumer.said == ["cancel"]


def test_it_declares_no_queues_for_delays_and_prefetches_one() -> None:
    assert not [step for step in SparingConsumer.Blueprint.default_steps if "delayed" in step]
    assert any("delayed" in step for step in Consumer.Blueprint.default_steps)
    assert SparingConsumer.max_prefetch_count == 1
