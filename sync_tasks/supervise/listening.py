"""Ports that a child listens on, taken by its parent: whoever replaces the child has the same address."""

from __future__ import annotations

import socket

from sync_tasks.errors import ControlError

LOOPBACK = "127.0.0.1"
BACKLOG = 128


def listen(address: str, port: int, what: str, code: str, setting: str) -> socket.socket:
    """A socket that listens and does not block.

    Args:
        address: of this machine.
        port: 0 takes any that is free.
        what: will listen there, for people.
        code: of the error.
        setting: the variables' common beginning.

    Raises:
        ControlError: it is taken, or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    try:
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ControlError(
            f"{what} cannot listen on {address}, port {port}: {error.strerror}",
            code=code,
            hint=f"give a free one in {setting}_PORT or 0 for any, and in {setting}_ADDRESS an address of this machine",
        ) from error
    return listener


def url(listener: socket.socket) -> str:
    """Where it is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
