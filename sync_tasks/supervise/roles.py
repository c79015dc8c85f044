"""What each child does, by name."""

from __future__ import annotations

import importlib
import pkgutil
import socket
from collections.abc import Callable

from sync_tasks import names
from sync_tasks.observe.logs import to_stderr
from sync_tasks.settings import Settings
from sync_tasks.supervise import worker
from sync_tasks.supervise.children import Role
from sync_tasks.supervise.pulse import Pulse
from sync_tasks.supervise.worker import Kind, Manner

STREAM_CONCURRENCY = 1
# Celery takes 2.3 s to stop an idle pool. The stream job has ended by then, and a chunk may be loaded twice.
WORKER_PATIENCE_S = 0.5
FLOWER_PATIENCE_S = 0.5
METRICS_PATIENCE_S = 0.5
FOREGROUND = Manner()
LATE = (
    "billiard.popen_fork",
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.backends.base",
    "celery.concurrency.prefork",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "encodings.idna",  # names of hosts
    "kombu.transport.redis",
)


def preload(between: Callable[[], None]) -> None:
    """Import in the parent, once, what all children need: they are forked, and it is most of the start.

    Args:
        between: called after each import; may raise to give up.
    """
    # The late ones are what Celery imports by name when a worker starts.
    for module in ("sync_tasks.app", "celery.apps.worker", *LATE, "sync_tasks.store", *names.TASK_MODULES):
        importlib.import_module(module)
        between()
    pkgutil.resolve_name(names.SCHEDULER_MAIN)
    pkgutil.resolve_name(names.MAPPERS)()


def load_worker(
    settings: Settings, concurrency: int, manner: Manner = FOREGROUND, patience_s: float = WORKER_PATIENCE_S
) -> Role:
    """Celery worker of the load queue with `concurrency` processes."""
    return Role("load worker", lambda: _end(worker.run(settings, Kind.LOAD, concurrency, manner)), patience_s)


def stream_worker(
    settings: Settings,
    concurrency: int = STREAM_CONCURRENCY,
    manner: Manner = FOREGROUND,
    patience_s: float = WORKER_PATIENCE_S,
) -> Role:
    """Celery worker of the stream queue; a process for each source node, of which the foreground has one."""
    return Role("stream worker", lambda: _end(worker.run(settings, Kind.STREAM, concurrency, manner)), patience_s)


def scheduler(settings: Settings) -> Role:
    """The scheduler, by name: no layer above is imported by this one."""
    return Role("scheduler", lambda: schedule(settings))


def flower(settings: Settings, password: str, sockets: list[socket.socket], ready: Callable[[], None]) -> Role:
    """Flower on sockets that listen already, so that whoever replaces it has the same address."""

    def run() -> None:
        from sync_tasks.supervise import flower

        to_stderr(settings)
        flower.serve(settings, password, sockets, ready)

    return Role("flower", run, FLOWER_PATIENCE_S)


def metrics(settings: Settings, listener: socket.socket, ready: Callable[[], None]) -> Role:
    """The endpoint of metrics, on a socket that listens already."""

    def run() -> None:
        from sync_tasks.supervise import metrics

        to_stderr(settings)
        metrics.serve(settings, listener, ready)

    return Role("metrics", run, METRICS_PATIENCE_S)


def schedule(settings: Settings, pulse: Pulse | None = None) -> None:
    """Be the scheduler until SIGTERM; `pulse` tells probes that it ticks."""
    to_stderr(settings)
    told = () if pulse is None else (lambda: pulse.beat(True),)
    pkgutil.resolve_name(names.SCHEDULER_MAIN)(settings, *told)


def _end(code: int) -> None:
    raise SystemExit(code)
