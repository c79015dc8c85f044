"""What Celery and Kombu are told of each kind of broker."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.app.utils import filter_hidden_settings
from celery.worker.consumer.connection import Connection as OfConsumer
from kombu import Connection

from sync_tasks import app as application
from sync_tasks import names, transport
from sync_tasks.broker_url import BrokerKind, read
from sync_tasks.errors import UsageError
from sync_tasks.settings import Settings
from sync_tasks.supervise import worker


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("redis://u:p%2F@h/2", "redis://u:p%2F@h:6379/2"),
        ("rediss://:p@[::1]", "rediss://:p@[::1]:6379/0"),
        ("redis+sentinel://u:p@h,i:1/m?db=2", "sentinel://u:p@h:26379/2;sentinel://u:p@i:1/2"),
        ("amqp://u:p@h,i/v%2Fw", "amqp://u:p@h:5672/v%2Fw;amqp://u:p@i:5672/v%2Fw"),
        ("amqps://h", "amqps://h:5671/"),
        ("redis+socket:///a b/c", "redis+socket:///a b/c"),
    ],
)
def test_the_url_in_kombus_form(given: str, told: str) -> None:
    broker = read(given)
    assert transport.url(broker) == told
    kombus = Connection(told)
    if broker.nodes:
        assert (kombus.hostname, kombus.port) == broker.nodes[0]
        assert (kombus.userid, kombus.password) == (broker.username, broker.password)


def test_certificates_are_verified_whatever_is_left_out(tmp_path: Path) -> None:
    of_redis = transport.tls(read("rediss://h?ca=/ca&cert=/cert&key=/key"))
    assert of_redis == {
        "ssl_cert_reqs": "required", "ssl_check_hostname": True,
        "ssl_ca_certs": "/ca", "ssl_certfile": "/cert", "ssl_keyfile": "/key",
    }  # fmt: skip
    assert transport.tls(read("rediss://h")) == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    of_rabbitmq = transport.tls(read("amqps://h?ca=/ca"))
    assert of_rabbitmq is not None
    assert dict(of_rabbitmq) == {"ca_certs": "/ca", "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    assert transport.tls(read("redis://h")) is None
    sentinels = transport.options(read("rediss+sentinel://h/m?ca=/ca"))["sentinel_kwargs"]
    assert (sentinels["ssl"], sentinels["ssl_cert_reqs"], sentinels["ssl_ca_certs"]) == (True, "required", "/ca")


def test_each_host_of_a_rabbitmq_shows_a_certificate_of_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kombu goes from one to the next."""
    asked: list[tuple[str, str]] = []

    class Refusing:
        recoverable_connection_errors = connection_errors = (OSError,)

        def __init__(self, host: str, ssl: dict[str, Any], **_: Any) -> None:
            self.host, self.ssl = host, ssl

        def connect(self) -> None:
            asked.append((self.host, {**self.ssl}["server_hostname"]))
            raise OSError("refused")

    connection = transport.connection(read("amqps://one,two?ca=/ca"), 1.0)
    monkeypatch.setattr("kombu.transport.pyamqp.Transport.Connection", Refusing)
    with pytest.raises(Exception, match="refused"):
        connection.ensure_connection(max_retries=3, interval_start=0, interval_max=0)
    assert set(asked) == {("one:5671", "one"), ("two:5671", "two")}


def test_how_sentinels_are_asked(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("hush\n")
    url = f"redis+sentinel://h/m?sentinel_username=w&sentinel_password_file={tmp_path}/theirs"
    found = transport.options(read(url))
    assert found["master_name"] == "m"
    assert found["sentinel_kwargs"] == {
        "socket_timeout": 1.0, "socket_connect_timeout": 1.0, "retry": None, "username": "w", "password": "hush",
    }  # fmt: skip
    conf = application.make_app(Settings(broker_url=url)).conf
    assert "hush" not in json.dumps(filter_hidden_settings(dict(conf.items())), default=str), "as Flower shows it"
    with pytest.raises(UsageError, match="sentinel_password_file: ") as caught:
        transport.options(read("redis+sentinel://h/m?sentinel_password_file=/none"))
    assert caught.value.code == "file-missing"


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("")
    transport.check_files(read(f"rediss://h?ca={tmp_path}/ca"))
    with pytest.raises(UsageError, match=r"cert: /none/cert: No such file") as caught:
        transport.check_files(read(f"rediss://h?ca={tmp_path}/ca&cert=/none/cert"))
    assert caught.value.code == "file-missing"


def test_queues_of_rabbitmq_are_quorum_queues_and_those_of_a_spool_go_with_its_host() -> None:
    of_all = transport.queue(names.QUEUE_LOAD, BrokerKind.RABBITMQ)
    of_one = transport.queue(names.queue(names.LOAD, "0123456789ab"), BrokerKind.RABBITMQ)
    assert of_all.queue_arguments == of_one.queue_arguments == {"x-queue-type": "quorum"}
    assert (of_all.expires, of_one.expires) == (None, transport.UNUSED_S)
    assert transport.queue(names.QUEUE_LOAD, BrokerKind.REDIS).queue_arguments is None


def test_the_application_of_a_rabbitmq() -> None:
    app = application.make_app(Settings(broker_url="amqp://u:hush@h/v"), ["kf.load.0123456789ab"])
    conf = app.conf
    assert {queue.queue_arguments["x-queue-type"] for queue in conf.task_queues} == {"quorum"}
    assert conf.task_default_queue_type == "quorum"
    assert conf.broker_transport_options["confirm_publish"] is True
    assert conf.broker_transport_options["read_timeout"] == transport.SILENT_S
    assert (conf.worker_disable_prefetch, conf.broker_channel_error_retry) == (False, True)
    assert (conf.control_queue_exclusive, conf.event_queue_exclusive) == (True, True)
    assert conf.task_acks_late is False
    assert "hush" not in str(filter_hidden_settings({"broker_url": conf.broker_url}))


def test_what_waits_is_asked_of_each_kind_in_its_own_way() -> None:
    declared: list[str] = []

    class Queue:
        name = "kf.load"

        def __call__(self, channel: Any) -> Queue:
            return self

        def queue_declare(self) -> SimpleNamespace:
            declared.append(self.name)
            return SimpleNamespace(message_count=3)

    channel: Any = SimpleNamespace(_size={"kf.load": 2}.__getitem__)
    assert transport.waiting(channel, Queue(), BrokerKind.REDIS) == 2  # type: ignore[arg-type]
    assert declared == []
    assert transport.waiting(channel, Queue(), BrokerKind.RABBITMQ) == 3  # type: ignore[arg-type]
    assert declared == ["kf.load"], "one that was deleted is there again"

@pytest.mark.parametrize(
    "url",
    ["redis+sentinel://:of-the-broker@a:1,b:2/m?sentinel_password_file={}", "amqp://me:of-the-broker@a:1,b:2/place"],
)
def test_what_flower_shows_of_a_worker_has_no_password(url: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("of-the-sentinels\n")
    made = application.make_app(Settings(broker_url=url.format(tmp_path / "password")))
    quiet = worker._quiet_worker()
    main = quiet.__new__(quiet)
    connection = made.connection_for_read()
    consumer = SimpleNamespace(connection=connection)
    steps = SimpleNamespace(info=lambda of: OfConsumer.info(None, of) if of is consumer else {})
    main.info, main.blueprint = dict, steps
    consumer.blueprint, main.consumer = steps, consumer
    told = main.stats()
    assert (told["broker"]["hostname"], told["broker"]["port"]) == ("a", 1)
    assert "of-the" not in repr(told)
