"""The endpoint that Prometheus scrapes, in a process of ours."""

from __future__ import annotations

import socket
from collections.abc import Callable
from http.server import ThreadingHTTPServer

from sync_tasks.settings import PREFIX, Settings
from sync_tasks.supervise import listening
from sync_tasks.supervise.process import end_by_signals

PORT = 9754
"""Of `keyferry metrics`, unless another is set."""
PATH = "/metrics"
PATIENCE_S = 10.0
"""Whoever says nothing for so long is hung up on."""


def listen(settings: Settings, port: int) -> socket.socket:
    """A socket on the address that is set; port 0 takes any that is free. Raises ControlError if it is taken."""
    return listening.listen(settings.metrics_address, port, "metrics", "metrics-port", f"{PREFIX}METRICS")


def url(listener: socket.socket) -> str:
    """What Prometheus is told."""
    return listening.url(listener) + PATH


class Server(ThreadingHTTPServer):
    """Answers on a socket that listens already. Threads, so that one who dawdles keeps nobody else waiting."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, handler: type) -> None:
        super().__init__(listener.getsockname()[:2], handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener


def serve(settings: Settings, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Answer scrapes until a signal ends the process: it keeps nothing.

    Args:
        settings: of the installation; its key is not used.
        listener: of `listen`.
        ready: called once it answers.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import MetricsHandler

    from sync_tasks.observe.collector import Installation
    from sync_tasks.observe.spooled import SpoolUse
    from sync_tasks.store.database import Database

    end_by_signals()
    found = CollectorRegistry()
    found.register(Installation(Database(settings.database()), SpoolUse(settings.spool)))

    class Handler(MetricsHandler):
        """One path, and nothing about us in the headers."""

        registry = found
        timeout = PATIENCE_S
        server_version, sys_version = "keyferry", ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] == PATH:
                super().do_GET()
            else:
                self.send_error(404, "see /metrics")

    server = Server(listener, Handler)
    ready()
    server.serve_forever()
