"""What a pool's processes have to say to the broker goes through the worker's main process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state

from sync_tasks import app, messages
from sync_tasks.messages import Message
from sync_tasks.supervise import worker
from sync_tasks.supervise.post import EVENT, Line, Post

LOAD = messages.load(8, "orders\u2603", 0, 3, 2, 2, "0123456789ab", 9)


class Dispatcher:
    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def send(self, kind: str, **fields: Any) -> None:
        self.sent.append((kind, fields))


@pytest.fixture
def post() -> Iterator[Post]:
    made = Post()
    yield made
    made.close()


def test_what_a_forked_process_says_arrives_whole_and_in_order(post: Post) -> None:
    pid = os.fork()
    if pid == 0:
        post.say("id", "snapshot 1")
        post.send(LOAD)
        os._exit(0)
    os.waitpid(pid, 0)
    assert list(post.arrived()) == [Line("id", "snapshot 1"), LOAD]
    assert list(post.arrived()) == []


def fill(post: Post) -> None:
    with contextlib.suppress(BlockingIOError):
        for _ in range(10_000):
            post.send(LOAD)
        raise AssertionError("a pipe without end")


def test_nobody_waits_while_nothing_is_read(post: Post) -> None:
    """The main process is away for as long as it connects to the broker again."""
    fill(post)
    post.say("id", "lost")
    with pytest.raises(BlockingIOError):
        post.send(LOAD)
    arrived = [what for _ in range(100) for what in post.arrived()]
    assert set(arrived) == {LOAD}
    post.say("id", "x" * 10_000)
    with pytest.raises(BlockingIOError):
        post.send(messages.op(1, "y" * 10_000, "restart"))
    (line,) = post.arrived()
    assert isinstance(line, Line)
    assert line.text.startswith("xxx")


def test_the_main_process_publishes_messages_and_lines_of_tasks_at_work(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Message] = []

    def send(_app: object, message: Message) -> None:
        if message.id == 1:
            raise ConnectionRefusedError
        sent.append(message)

    monkeypatch.setattr(app, "send", send)
    monkeypatch.setitem(state.requests, "at-work", object())
    quiet = worker._quiet_worker()
    main = quiet.__new__(quiet)
    main.app = SimpleNamespace(keyferry_post=post)
    consumer = SimpleNamespace(event_dispatcher=Dispatcher())
    post.send(messages.op(1, "orders", "restart"))
    post.send(LOAD)
    post.say("at-work", "2 keys")
    post.say("over", "a line that would hide the result")
    main._deliver(consumer)
    assert sent == [LOAD], "what cannot be sent is left to the scheduler, and holds nobody up"
    assert consumer.event_dispatcher.sent == [(EVENT, {"uuid": "at-work", "result": "2 keys"})]
