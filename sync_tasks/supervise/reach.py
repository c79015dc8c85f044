"""One look at the broker, before work begins: what can never heal is an error at once, all else is waited for."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator

from sync_tasks import broker_url, names, transport
from sync_tasks.broker_url import Broker, BrokerKind
from sync_tasks.errors import ControlError, Retry
from sync_tasks.settings import Settings

WITHIN_S = 2.0
"""Seconds; it is asked twice."""
OLDEST = (3, 10)
"""RabbitMQ whose quorum queues know messages that expire."""
AWAY = "check host and port, that it runs, and that no firewall is between"
SILENT_TLS = "check that the port speaks TLS, that it is not stopped, and that no firewall is between"


def at_start(settings: Settings, say: Callable[[str], None]) -> None:
    """Say why the broker cannot be reached yet, if it cannot.

    Args:
        say: takes a line for the user.

    Raises:
        UsageError: a file that its URL names cannot be read.
        ControlError: it answers, and will never take us as we come.
    """
    try:
        look(broker_url.read(settings.broker()))
    except ControlError as error:
        if error.retry is Retry.FATAL:
            raise
        say(f"waiting for the broker: {error.line()}")


def look(broker: Broker) -> str:
    """What answers there, such as "RabbitMQ 3.13.7".

    Raises:
        UsageError: a file that its URL names cannot be read.
        ControlError: what is wrong, and what to do; `retry` says whether waiting may help.
    """
    transport.check_files(broker)
    try:
        with transport.connection(broker, WITHIN_S) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_max=0)
            version = ""
            if broker.kind is BrokerKind.RABBITMQ:
                version = _rabbitmq(broker, str(connection.connection.server_properties.get("version", "")))
            with connection.channel() as channel:
                for name in sorted(set(names.QUEUES.values())):
                    transport.waiting(channel, transport.queue(name, broker.kind), broker.kind)
                return version or _redis(channel.client)
    except Exception as error:
        if isinstance(error, ControlError):
            raise
        raise explained(broker, error) from error


def _rabbitmq(broker: Broker, version: str) -> str:
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if found and found < OLDEST:
        raise ControlError(
            f"the broker, {broker.title}, is of version {version}", code="broker-version",
            hint=f"quorum queues whose messages expire need RabbitMQ {OLDEST[0]}.{OLDEST[1]} or later",
        )  # fmt: skip
    return f"RabbitMQ {version}".strip()


def _redis(client: object) -> str:
    """Its user need not have the right to ask for the version."""
    from redis.exceptions import RedisError

    try:
        said = client.info("server")  # type: ignore[attr-defined]
    except RedisError:
        return "Redis"
    if "valkey_version" in said:
        return f"Valkey {said['valkey_version']}"
    return f"Redis {said['redis_version']}"


def explained(broker: Broker, error: BaseException) -> ControlError:
    """What a failure to connect means."""
    causes = list(_causes(error))
    text = next((str(one) for one in causes if str(one)), type(error).__name__)
    kinds = {type(one).__name__ for one in causes}
    if "MasterNotFoundError" in kinds:
        # What each Sentinel said stands in the text alone, between descriptions of its client.
        text, _, said = text.partition(" : ")
        found = sorted(set(re.findall(r"\w+Error", said)))
        kinds |= set(found)
        text += f" ({', '.join(found)})" if found else ""
    for final, code, hint in _FINAL:
        if kinds & set(final):
            return ControlError(f"the broker, {broker.title}: {text}", code=code, hint=hint)
    if any(isinstance(one, ssl.SSLError) for one in causes) or "SSL" in text:
        hint = "check that the port speaks TLS, and ca, cert and key in broker_url; its certificate must name the host"
        return ControlError(f"the broker, {broker.title}: {text}", code="broker-tls", hint=hint)
    return ControlError(
        f"the broker cannot be reached, {broker.title}: {text}", code="broker-away", retry=Retry.CONNECTION,
        hint=_hint(broker, kinds),
    )  # fmt: skip


def _hint(broker: Broker, kinds: set[str]) -> str:
    if "gaierror" in kinds:
        return "check the spelling of the host and the name server"
    if "MasterNotFoundError" in kinds:
        return "check the name of the master and the addresses of the Sentinels; a failover may be under way"
    return SILENT_TLS if broker.tls and "TimeoutError" in kinds else AWAY


_FINAL = (
    (
        ("AuthenticationError", "NoPermissionError", "AccessRefused"),
        "broker-credentials",
        "check user and password in broker_url, with / ? # @ written as %XX; docs/deploy.md says which rights it needs",
    ),
    (
        ("PreconditionFailed",),
        "broker-queues",
        "a queue of that name was made by others, in another way: delete kf.* there, or name another virtual host",
    ),
    (("NotAllowed",), "broker-vhost", "make that virtual host, or name one that is there: amqp://user:password@host/vhost"),
    (
        ("InvalidResponse", "UnexpectedFrame", "AMQPNotImplementedError", "ResponseError"),
        "broker-refuses",
        "is it a broker of the kind that broker_url names? its documentation explains the answer",
    ),
)
"""Names of exceptions of redis-py and py-amqp that no waiting heals."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
