"""redis-py's TLS connection with a server name of its own; imported only where one is given."""

from __future__ import annotations

from typing import Any

from redis.connection import SSLConnection


class SniConnection(SSLConnection):
    """Asks for, and verifies, `server_name` in place of the host that it connects to."""

    def __init__(self, *args: Any, server_name: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._server_name = server_name

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        # redis-py 6 to 8 take the name from `host` alone.
        host, self.host = self.host, self._server_name
        try:
            return super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        finally:
            self.host = host
