"""The application's settings were measured; whoever changes one meets this test."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from celery import current_app

from sync_tasks import app as module
from sync_tasks import messages, names
from sync_tasks.broker_url import BrokerKind
from sync_tasks.messages import Message
from sync_tasks.settings import Settings

MEASURED = {
    "task_acks_late": False,
    "task_ignore_result": True,
    "result_backend": None,
    "task_serializer": "json",
    "accept_content": ["json"],
    "task_reject_on_worker_lost": False,
    "task_retry_on_worker_lost": False,
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    "task_track_started": True,
    "worker_send_task_events": True,
    "task_send_sent_event": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "worker_soft_shutdown_timeout": 10,
    "task_create_missing_queues": False,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_max_tasks_per_child": 500,
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


@pytest.mark.parametrize("key", MEASURED)
def test_settings(settings: Settings, key: str) -> None:
    assert module.make_app(settings).conf[key] == MEASURED[key]


def test_the_transport(settings: Settings, tmp_path: Path) -> None:
    unix = module.make_app(settings)
    assert unix.conf.broker_url == f"redis+socket://{tmp_path}/broker.sock"
    options = unix.conf.broker_transport_options
    assert {name: options[name] for name in ("visibility_timeout", "socket_timeout", "global_keyprefix")} == {
        "visibility_timeout": 300,
        "socket_timeout": 30,
        "global_keyprefix": "kf:",
    }
    assert options["unacked_restore_interval"] * options["unacked_restore_throttle"] == 60
    assert options["health_check_interval"] == 10
    assert "socket_keepalive" not in options, "unix sockets refuse it"
    tcp = module.make_app(Settings(broker_url="redis://localhost:1"))
    assert tcp.conf.broker_transport_options["socket_keepalive"] is True
    assert tcp.conf.task_publish_retry_policy["max_retries"] == 3


def test_queues_and_routes(settings: Settings) -> None:
    app = module.make_app(settings)
    assert {queue.name for queue in app.conf.task_queues} == {names.QUEUE_STREAM, names.QUEUE_LOAD, names.QUEUE_OPS}
    assert app.conf.include == list(names.TASK_MODULES)
    for task, queue in names.QUEUES.items():
        assert app.amqp.router.route({}, task)["queue"].name == queue


def test_a_worker_of_one_spool_knows_its_queues(settings: Settings) -> None:
    app = module.make_app(settings, ["kf.load.0123456789ab"])
    assert "kf.load.0123456789ab" in {queue.name for queue in app.conf.task_queues}


def test_tasks_find_the_settings_in_forked_children(settings: Settings) -> None:
    module.make_app(settings)
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    child = context.Process(target=lambda: theirs.send(str(current_app.keyferry_settings.state_dir)))
    child.start()
    assert mine.recv() == str(settings.state_dir)
    child.join()


class Sent:
    """Stands for an application; keeps what is sent."""

    keyferry_broker = BrokerKind.REDIS

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, object]]] = []

    def send_task(self, name: str, **options: object) -> None:
        self.calls.append((name, options))


def test_messages_carry_an_id_alone_and_stream_messages_expire() -> None:
    app = Sent()
    module.send(app, messages.follow(7, "orders-move", 0, None))  # type: ignore[arg-type]
    module.send(app, messages.load(8, "orders-move", 0, 3, 2, 2, "0123456789ab", 9))  # type: ignore[arg-type]
    (follow, of_stream), (load, of_chunk) = app.calls
    assert (follow, load) == (names.FOLLOW, names.LOAD)
    assert (of_stream["args"], of_chunk["args"]) == ([7], [8])
    assert (of_stream["expires"], of_chunk["expires"]) == (module.FOLLOW_EXPIRES_S, None)
    assert (str(of_stream["queue"].name), of_chunk["queue"].name) == ("kf.stream", "kf.load.0123456789ab")  # type: ignore[attr-defined]
    assert of_stream["argsrepr"] == "('orders-move', 'node 0')"
    assert of_chunk["argsrepr"] == "('orders-move', 'node 0', 'db 3', 'shard 2', 'chunk 3 of 9')"


def test_a_broker_that_is_away_is_noticed_within_a_second(settings: Settings) -> None:
    import time

    app = module.make_app(settings)
    begun = time.monotonic()
    with pytest.raises(Exception, match="connecting to"):
        module.send(app, Message(names.LOAD, 1))
    with pytest.raises(Exception, match="connecting to"):
        module.waiting(app, names.QUEUE_LOAD)
    assert time.monotonic() - begun < 2.0
