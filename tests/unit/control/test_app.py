"""The application's settings were measured; whoever changes one meets this test."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from sync_tasks import app as module
from sync_tasks import names
from sync_tasks.errors import ControlError
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
    assert options["unacked_restore_interval"] * options["unacked_restore_throttle"] == 5
    assert options["health_check_interval"] == 10
    assert "socket_keepalive" not in options, "unix sockets refuse it"
    tcp = module.make_app(Settings(broker_url="redis://localhost:1"))
    assert tcp.conf.broker_transport_options["socket_keepalive"] is True
    assert tcp.conf.task_publish_retry_policy["max_retries"] == 3


def test_queues_and_routes(settings: Settings) -> None:
    app = module.make_app(settings)
    assert {queue.name for queue in app.conf.task_queues} == {names.QUEUE_STREAM, names.QUEUE_LOAD}
    assert app.conf.include == list(names.TASK_MODULES)
    for task, queue in ((names.FOLLOW, names.QUEUE_STREAM), (names.LOAD, names.QUEUE_LOAD)):
        assert app.amqp.router.route({}, task)["queue"].name == queue


def test_settings_reach_forked_children(settings: Settings) -> None:
    app = module.configure(settings)
    assert module.current_app() is app
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    child = context.Process(target=lambda: theirs.send(str(module.current_settings().state_dir)))
    child.start()
    assert mine.recv() == str(settings.state_dir)
    child.join()


def test_before_configure_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_configured", [])
    with pytest.raises(ControlError):
        module.current_settings()


class Sent:
    """Stands for an application; keeps what is sent."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, object]]] = []

    def send_task(self, name: str, **options: object) -> None:
        self.calls.append((name, options))


def test_messages_carry_an_id_alone_and_stream_messages_expire() -> None:
    app = Sent()
    module.send_by(app, names.FOLLOW, 7)  # type: ignore[arg-type]
    module.send_by(app, names.LOAD, 8)  # type: ignore[arg-type]
    assert app.calls == [
        (names.FOLLOW, {"args": [7], "queue": names.QUEUE_STREAM, "expires": module.FOLLOW_EXPIRES_S}),
        (names.LOAD, {"args": [8], "queue": names.QUEUE_LOAD, "expires": None}),
    ]


def test_a_broker_that_is_away_is_noticed_within_a_second(settings: Settings) -> None:
    import time

    app = module.make_app(settings)
    begun = time.monotonic()
    with pytest.raises(Exception, match="connecting to"):
        module.send_by(app, names.LOAD, 1)
    with pytest.raises(Exception, match="connecting to"):
        module.waiting(app, names.LOAD)
    assert time.monotonic() - begun < 2.0
