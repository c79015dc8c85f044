"""An object store that speaks S3, in a thread of the test's process. What it holds outlives its being stopped."""

from __future__ import annotations

import threading
from types import TracebackType

from sync_tasks.objects import ObjectStore
from tests.servers import free_port

BUCKET = "spool"


class ObjectServer:
    """Started with its block, empty."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        self.port = free_port()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "who",
            "AWS_SECRET_ACCESS_KEY": "of-the-store",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self.url = f"s3://{BUCKET}/keyferry"
        self._application = DomainDispatcherApplication(create_backend_app)

    def start(self) -> None:
        """Answer."""
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, type: str, message: str, *args: object) -> None:
                pass

        self._server = make_server("127.0.0.1", self.port, self._application, threaded=True, request_handler=Quiet)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> ObjectServer:
        from moto.s3.models import s3_backends

        s3_backends.reset()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def flip(store: ObjectStore, name: str) -> None:
    """One bit in the middle of an object."""
    system, path = store._at(name)
    data = bytearray(system.cat_file(path))
    data[len(data) // 2] ^= 1
    system.pipe_file(path, bytes(data))
