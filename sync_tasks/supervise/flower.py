"""Flower within a process of ours: no command line or environment could give its password away."""

from __future__ import annotations

import importlib.util
import logging
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from sync_tasks.errors import ControlError
from sync_tasks.settings import PREFIX, Settings
from sync_tasks.supervise import listening
from sync_tasks.supervise.process import end_by_signals

OPEN = ("/metrics", "/healthcheck")
"""Pages of Flower's that ask for no password: beyond this machine they are not there."""
MAX_TASKS = 10_000
PURGE_OFFLINE_S = 300
INSPECT_EVERY_MS = 1000
COLUMNS = "name,args,state,result,received,worker"  # what a person reads: which task, and how far it is


def check() -> None:
    """Raise ControlError if Flower is not installed."""
    if importlib.util.find_spec("flower") is None:
        raise ControlError("Flower is not installed", code="no-flower", hint="pip install 'keyferry[flower]'")


def listen(address: str, port: int) -> list[socket.socket]:
    """Sockets on an address of this machine; port 0 takes any that is free. Raises ControlError if it is taken."""
    return [listening.listen(address, port, "Flower", "flower-port", f"{PREFIX}FLOWER")]


def beyond(sockets: list[socket.socket]) -> bool:
    """Whether others than this machine reach it."""
    return not all(ip_address(one.getsockname()[0]).is_loopback for one in sockets)


def url(sockets: list[socket.socket]) -> str:
    """Where a browser finds it."""
    return listening.url(sockets[0])


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

    end_by_signals()
    logging.getLogger("tornado.access").setLevel(logging.ERROR)  # else a line for each refused or unknown address
    options.basic_auth = [f"{settings.flower_user}:{password}"]
    options.max_tasks = MAX_TASKS
    options.tasks_columns = COLUMNS
    options.purge_offline_workers = PURGE_OFFLINE_S
    made = _closed() if beyond(sockets) else Flower
    app = made(capp=make_app(settings), options=options, **pages)
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


def _closed() -> type[Any]:
    """The application without the pages that ask for no password."""
    from flower.app import Flower
    from tornado.web import ErrorHandler

    class Closed(Flower):  # type: ignore[misc]
        def find_handler(self, request: Any, **kwargs: Any) -> Any:
            if request.path in OPEN:
                return self.get_handler_delegate(request, ErrorHandler, {"status_code": 404})
            return super().find_handler(request, **kwargs)

    return Closed
