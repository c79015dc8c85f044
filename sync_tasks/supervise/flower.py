"""Flower within a process of ours: no command line or environment could give its password away."""

from __future__ import annotations

import importlib.util
import logging
import signal
import socket
from collections.abc import Callable

from sync_tasks.errors import ControlError
from sync_tasks.settings import Settings

LOOPBACK = "127.0.0.1"  # /metrics and /healthcheck ask for no password: beyond this machine only by a proxy
MAX_TASKS = 10_000
PURGE_OFFLINE_S = 300
BACKLOG = 128
INSPECT_EVERY_MS = 1000
COLUMNS = "name,args,state,result,received,worker"  # what a person reads: which task, and how far it is


def check() -> None:
    """Raise ControlError if Flower is not installed."""
    if importlib.util.find_spec("flower") is None:
        raise ControlError("Flower is not installed", code="no-flower", hint="pip install 'keyferry[flower]'")


def listen(port: int) -> list[socket.socket]:
    """Sockets on the loopback address; port 0 takes any that is free. Raises ControlError if it is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ControlError(
            f"Flower cannot listen on port {port}: {error.strerror}",
            code="flower-port",
            hint="give a free one in KEYFERRY_FLOWER_PORT, or 0 for any",
        ) from error
    return [listener]


def url(sockets: list[socket.socket]) -> str:
    """Where a browser finds it."""
    return f"http://{LOOPBACK}:{sockets[0].getsockname()[1]}"


def serve(settings: Settings, password: str, sockets: list[socket.socket], ready: Callable[[], None]) -> None:
    """Be Flower until a signal ends the process: it keeps nothing.

    Args:
        settings: of the installation; the broker is reached exactly as workers reach it.
        password: of `settings.flower_user`.
        sockets: of `listen`.
        ready: called once it answers.
    """
    from flower.app import Flower
    from flower.options import default_options as options
    from flower.urls import settings as pages
    from tornado.httpserver import HTTPServer
    from tornado.ioloop import PeriodicCallback

    from sync_tasks.app import make_app

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    logging.getLogger("tornado.access").setLevel(logging.ERROR)  # else a line for each refused or unknown address
    options.basic_auth = [f"{settings.flower_user}:{password}"]
    options.max_tasks = MAX_TASKS
    options.tasks_columns = COLUMNS
    options.purge_offline_workers = PURGE_OFFLINE_S
    app = Flower(capp=make_app(settings), options=options, **pages)
    HTTPServer(app).add_sockets(sockets)

    def inspect_new() -> None:
        """Flower asks workers for their details at its own start alone; ours may come later."""
        if set(app.events.state.workers) - set(app.workers):
            app.update_workers()

    app.io_loop.add_callback(ready)
    PeriodicCallback(inspect_new, INSPECT_EVERY_MS).start()
    # What Flower's own `start` does, but for asking workers that may not be there, and older versions' listening.
    app.events.start()
    app.started = True
    app.io_loop.start()
