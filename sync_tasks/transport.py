"""How Celery reaches a broker of each kind: what was measured, and why it is as it is."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kombu.connection import Connection
from kombu.entity import Queue

from sync_tasks import names
from sync_tasks.broker_url import Broker, BrokerKind, address
from sync_tasks.errors import UsageError

SILENT_S = 30
"""A broker that hangs must not hang us; twice the longest blocking read."""
SENTINEL_S = 1.0
"""One of several that is silent must not hold up the others."""
UNUSED_S = 30 * 86400
"""RabbitMQ removes the queue of a spool that nobody has looked at for so long: its host is gone. A stream worker whose
processes are all busy does not look, until one of them is free. (Whoever changes it gives the queues other names, too:
RabbitMQ refuses to declare a queue that is there with other arguments.)"""

REDIS = {
    # Messages are acknowledged before they run: redelivery only sweeps what a dying worker had just fetched.
    "visibility_timeout": 300,  # s
    # The sweep's period is interval x throttle. Nobody waits for it: the scheduler sends anew what a dead worker had.
    "unacked_restore_interval": 60,  # s
    "unacked_restore_throttle": 1,
    "socket_timeout": SILENT_S,
    "health_check_interval": 10,  # s
    # A broker may be shared: all our keys say whose they are.
    "global_keyprefix": "kf:",
}
RABBITMQ = {
    # Else what RabbitMQ could not keep would be lost without a word, until the scheduler sends it again.
    "confirm_publish": True,
    "read_timeout": SILENT_S,
    "write_timeout": SILENT_S,
}
CONF: dict[BrokerKind, dict[str, Any]] = {
    BrokerKind.RABBITMQ: {
        "task_default_queue_type": "quorum",
        # Of Redis alone; see supervise/sparing.py.
        "worker_disable_prefetch": False,
        # A queue that somebody has deleted, or that is still another connection's, closes the channel: connect anew.
        "broker_channel_error_retry": True,
        # The default of Celery 5.7: RabbitMQ 4.3 refuses queues that are neither exclusive nor durable.
        "control_queue_exclusive": True,
        "event_queue_exclusive": True,
    }
}


class PerHost(dict[str, Any]):
    """Options of TLS for RabbitMQ. Kombu writes the first host's name into them, and would ask others for it."""

    def __getitem__(self, name: str) -> Any:
        return None if name == "server_hostname" else super().__getitem__(name)


def conf(broker: Broker) -> dict[str, Any]:
    """Celery's settings for a broker. Raises UsageError if a file that its URL names cannot be read."""
    return {
        "broker_url": url(broker),
        "broker_use_ssl": tls(broker) or False,
        "broker_transport_options": options(broker),
        **CONF.get(broker.kind, {}),
    }


def connection(broker: Broker, timeout_s: float) -> Connection:
    """A connection as Celery makes it, not opened yet, but with as little patience. Raises as `conf` does."""
    patience = ("read_timeout", "write_timeout") if broker.kind is BrokerKind.RABBITMQ else ("socket_timeout",)
    given = {**options(broker), **dict.fromkeys(patience, timeout_s)}
    return Connection(  # type: ignore[no-untyped-call]
        url(broker), ssl=tls(broker) or False, connect_timeout=timeout_s, transport_options=given
    )


def url(broker: Broker) -> str:
    """The URL in Kombu's form, which holds nothing of TLS: that stands in `tls`."""
    if broker.kind is BrokerKind.SOCKET:
        return broker.url
    user = ""
    if broker.password is not None:
        user = f"{quote(broker.username or '', safe='')}:{quote(broker.password, safe='')}@"
    if broker.kind is BrokerKind.RABBITMQ:
        scheme = "amqps" if broker.tls else "amqp"
        path = "" if broker.vhost == "/" else quote(broker.vhost, safe="")
    else:
        scheme = "sentinel" if broker.kind is BrokerKind.SENTINEL else "rediss" if broker.tls else "redis"
        path = str(broker.db)
    return ";".join(f"{scheme}://{user}{address(host, port)}/{path}" for host, port in broker.nodes)


def tls(broker: Broker) -> dict[str, Any] | None:
    """What Kombu is to know of TLS; None: it is not spoken. Certificates and names of hosts are verified, always."""
    if not broker.tls:
        return None
    files = {"ca_certs": broker.ca, "certfile": broker.cert, "keyfile": broker.key}
    given = {name: path for name, path in files.items() if path is not None}
    if broker.kind is BrokerKind.RABBITMQ:
        return PerHost(given, cert_reqs=ssl.CERT_REQUIRED, server_hostname=None)
    return _redis_tls(given)


def _redis_tls(given: dict[str, str]) -> dict[str, Any]:
    return {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        **{f"ssl_{name}": path for name, path in given.items()},
    }


def options(broker: Broker) -> dict[str, Any]:
    """Kombu's transport options."""
    if broker.kind is BrokerKind.RABBITMQ:
        return dict(RABBITMQ)
    if broker.kind is BrokerKind.SOCKET:
        return dict(REDIS)  # the options of TCP are refused there
    found = {**REDIS, "socket_keepalive": True}
    if broker.kind is BrokerKind.SENTINEL:
        found |= {"master_name": broker.master, "sentinel_kwargs": _to_sentinels(broker)}
    return found


def _to_sentinels(broker: Broker) -> dict[str, Any]:
    """How Sentinels are reached: with a user of their own, over TLS if their master is."""
    # No retries, which take redis-py 7 s: there are others to ask. (Flower asks for the same by other classes.)
    found: dict[str, Any] = {"socket_timeout": SENTINEL_S, "socket_connect_timeout": SENTINEL_S, "retry": None}
    if broker.sentinel_username is not None:
        found["username"] = broker.sentinel_username
    if broker.sentinel_password_file is not None:
        found["password"] = _contents("sentinel_password_file", broker.sentinel_password_file).partition("\n")[0]
    if (of_tls := tls(broker)) is not None:
        found |= {"ssl": True, **of_tls}
    return found


def check_files(broker: Broker) -> None:
    """Whether the files that its URL names are there. Raises UsageError."""
    for name, path in (("ca", broker.ca), ("cert", broker.cert), ("key", broker.key)):
        if path is not None:
            _contents(name, path)


def _contents(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(
            f"broker_url: {name}: {path}: {reason}", code="file-missing", hint="give the path of a readable file"
        ) from error


def queue(name: str, kind: BrokerKind) -> Queue:
    """A queue as every process declares it: RabbitMQ refuses one that differs from what is there."""
    if kind is not BrokerKind.RABBITMQ:
        return Queue(name, routing_key=name)  # type: ignore[no-untyped-call]
    of_a_spool = name not in names.QUEUES.values()
    return Queue(  # type: ignore[no-untyped-call]
        name, routing_key=name, queue_arguments={"x-queue-type": "quorum"}, expires=UNUSED_S if of_a_spool else None
    )


def waiting(channel: Any, queue: Queue, kind: BrokerKind) -> int:
    """Messages of a queue that no worker has taken yet. Raises what the transport raises."""
    if kind is BrokerKind.RABBITMQ:
        # Not passively: one that is gone comes back, and whatever is sent to it arrives.
        return int(queue(channel).queue_declare().message_count)  # type: ignore[no-untyped-call]
    return int(channel._size(queue.name))
