"""What each child does. Only here does the supervisor meet Celery."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from typing import Any

from sync_tasks import names
from sync_tasks.settings import Settings
from sync_tasks.supervise.children import Role

STREAM_CONCURRENCY = 1
# Celery takes 2.3 s to stop an idle pool. The stream job has ended by then, and a chunk may be loaded twice.
WORKER_PATIENCE_S = 0.5
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


def load_worker(settings: Settings, concurrency: int) -> Role:
    """Celery worker of the load queue with `concurrency` processes."""
    return Role("load worker", _worker(settings, "load", names.QUEUE_LOAD, concurrency), WORKER_PATIENCE_S)


def stream_worker(settings: Settings) -> Role:
    """Celery worker of the stream queue; one process, since a command follows one source node."""
    run = _worker(settings, "stream", names.QUEUE_STREAM, STREAM_CONCURRENCY)
    return Role("stream worker", run, WORKER_PATIENCE_S)


def scheduler(settings: Settings) -> Role:
    """The scheduler, by name: no layer above is imported by this one."""

    def run() -> None:
        _log_to_stderr()
        pkgutil.resolve_name(names.SCHEDULER_MAIN)(settings)

    return Role("scheduler", run)


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s",
    )


def _worker(settings: Settings, name: str, queue: str, concurrency: int) -> Callable[[], None]:
    def run() -> None:
        import setproctitle
        from celery import signals
        from celery.apps.worker import Worker
        from celery.exceptions import SecurityWarning

        from sync_tasks.app import make_app

        title = f"keyferry: {name} worker"

        class QuietWorker(Worker):  # type: ignore[misc]
            """Keeps our title, which Celery would replace by one with the command line in it."""

            def set_process_status(self, info: str) -> None:
                setproctitle.setproctitle(title)

            def emit_banner(self) -> None:
                """Nobody reads it."""

            def install_platform_tweaks(self, worker: Any) -> None:
                super().install_platform_tweaks(worker)
                # Celery would start itself anew by the command line, which is not a worker's.
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

        def name_pool_process(**_: Any) -> None:
            setproctitle.setproctitle(f"{title} process")

        _log_to_stderr()
        # About being root: messages are JSON, which executes nothing.
        warnings.filterwarnings("ignore", category=SecurityWarning)
        signals.worker_process_init.connect(name_pool_process, weak=False)
        QuietWorker(
            app=make_app(settings),
            hostname=f"{name}@{socket.gethostname()}",
            queues=[queue],
            concurrency=concurrency,
            pool="prefork",
            loglevel=logging.INFO,
            without_mingle=True,
            without_gossip=True,
            without_heartbeat=True,
            optimization="fair",
        ).start()

    return run
