"""The Celery application. Its settings were measured; each says why it is as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery

from sync_tasks import broker_url, names, transport
from sync_tasks.messages import Message
from sync_tasks.observe import traces
from sync_tasks.settings import Settings

FOLLOW_EXPIRES_S = 10
"""A message of a stream is worth nothing later: the scheduler sends another every 3 s until it is claimed."""

CONF: dict[str, Any] = {
    # The database holds leases; acks_late killed workers on a lost broker and ran tasks twice.
    "task_acks_late": False,
    "task_reject_on_worker_lost": False,
    "task_retry_on_worker_lost": False,
    # The database is the truth: no results, no second store to disagree with.
    "task_ignore_result": True,
    "result_backend": None,
    # Messages carry a name and an id, nothing that could execute.
    "task_serializer": "json",
    "accept_content": ["json"],
    # A stream job runs for days: what is prefetched behind it would wait as long.
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # Flower shows what runs, and what was sent but not begun.
    "task_track_started": True,
    "worker_send_task_events": True,
    "task_send_sent_event": True,
    # The broker is a child that may start later than we do, and may be replaced at any time.
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    # Time to reach a checkpoint on shutdown.
    "worker_soft_shutdown_timeout": 10,  # s
    # A misspelt queue is an error, not a queue that nobody reads.
    "task_create_missing_queues": False,
    "task_default_queue": names.QUEUE_LOAD,
    # Logging and stdout belong to the process that runs us.
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    # Memory that a loader's huge values fragmented goes back now and then. A stream job counts as one task.
    "worker_max_tasks_per_child": 500,
    # The caller of send waits: give up within a second, the scheduler sends it again.
    "task_publish_retry_policy": {
        "max_retries": 3,
        "interval_start": 0,
        "interval_step": 0.1,
        "interval_max": 0.3,
    },
    # Nothing is scheduled through the broker, but stamps are comparable across hosts.
    "enable_utc": True,
    "timezone": "UTC",
}


def make_app(settings: Settings, extra_queues: Sequence[str] = ()) -> Celery:
    """An application of these settings; `app.keyferry_settings` holds them for forked children.

    Args:
        extra_queues: names of queues that a worker reads besides the common ones.

    Raises:
        UsageError: a file that the broker's URL names cannot be read.
    """
    broker = broker_url.read(settings.broker())
    app = Celery("keyferry", include=list(names.TASK_MODULES), set_as_current=True)
    app.conf.update(CONF | transport.conf(broker))
    queues = names.QUEUES.values()
    app.conf.task_queues = [transport.queue(name, broker.kind) for name in sorted({*queues, *extra_queues})]
    app.conf.task_routes = {task: {"queue": queue, "routing_key": queue} for task, queue in names.QUEUES.items()}
    app.keyferry_settings = settings
    app.keyferry_broker = broker.kind
    return app


def send(app: Celery, message: Message) -> None:
    """Publish a message. Raises what the transport raises."""
    expires = FOLLOW_EXPIRES_S if message.name == names.FOLLOW else None
    queue = transport.queue(message.queue, app.keyferry_broker)
    app.send_task(
        message.name, args=[message.id], queue=queue, expires=expires, argsrepr=repr(message.says),
        headers=traces.carry() or None,
    )  # fmt: skip


def waiting(app: Celery, queue: str) -> int:
    """Messages of a queue that no worker has taken yet. Raises what the transport raises."""
    with app.connection_for_write() as connection:
        # Not `default_channel`: it would wait 6 s for a broker that is away.
        connection.ensure_connection(max_retries=1, interval_start=0, interval_max=0)
        with connection.channel() as channel:
            return transport.waiting(channel, transport.queue(queue, app.keyferry_broker), app.keyferry_broker)
