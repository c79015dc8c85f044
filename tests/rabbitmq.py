"""A throw-away RabbitMQ for tests: on free ports, with a name, a cookie and files of its own, never outliving us.

    with start() as broker:
        broker.kill()
        broker.start(empty=True)

Erlang's nodes find each other by a name service (epmd); this one has its own, which ends with it. Debian's package
`rabbitmq-server` brings the binary; nothing of its service is used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.servers import STOP_TIMEOUT, die_with_parent, free_port
from tests.unit.control.tls import Authority

START_TIMEOUT = 60.0  # Erlang takes its time, on a busy machine more of it
HOME = Path("/usr/lib/rabbitmq")
USER, PASSWORD = "keyferry", "s3cret@/"
ERLANG = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -noinput"
"""One thread that does not spin: other tests run beside it. It reads nothing: at the end of its input it would end."""


def needs_rabbitmq() -> Path:
    """The script that becomes the server. Skips the calling test where there is none; in CI fails it instead."""
    found = HOME / "bin" / "rabbitmq-server"
    if found.exists() and shutil.which("epmd"):
        return found
    if os.environ.get("CI") == "true":
        pytest.fail("no rabbitmq-server here", pytrace=False)
    pytest.skip("no rabbitmq-server here")


class RabbitMQ:
    """One node. As a context manager it runs for the block.

    Args:
        directory: for its files.
        tls: speaks TLS on `tls_port` besides, with this certificate.
    """

    def __init__(self, directory: Path, tls: Authority | None = None) -> None:
        self._script, self._home = needs_rabbitmq(), directory
        self.port, self.tls_port = free_port(), free_port()
        self._names, self._distribution = free_port(), free_port()
        directory.mkdir(parents=True, exist_ok=True)
        lines = [
            f"listeners.tcp.default = 127.0.0.1:{self.port}",
            f"default_user = {USER}", f"default_pass = {PASSWORD}",
            # Not by how much memory or disk the machine has: of those tests have no say.
            "vm_memory_high_watermark.absolute = 1GB", "disk_free_limit.absolute = 1MB",
        ]  # fmt: skip
        if tls is not None:
            lines += [
                f"listeners.ssl.default = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {tls.ca}", f"ssl_options.certfile = {tls.cert}",
                f"ssl_options.keyfile = {tls.key}",
            ]  # fmt: skip
        (directory / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (directory / "plugins").write_text("[].\n")
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, *, tls: bool = False, query: str = "", host: str = "127.0.0.1") -> str:
        """By which Keyferry finds it."""
        scheme, port = ("amqps", self.tls_port) if tls else ("amqp", self.port)
        return f"{scheme}://{USER}:{quote(PASSWORD, safe='')}@{host}:{port}" + (f"?{query}" if query else "")

    @property
    def _env(self) -> dict[str, str]:
        home = str(self._home)
        return {
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": home,
            "RABBITMQ_NODENAME": f"keyferry-{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf", "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/none.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
            "RABBITMQ_MNESIA_BASE": f"{home}/data", "RABBITMQ_LOG_BASE": home, "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{home}/pid", "RABBITMQ_GENERATED_CONFIG_DIR": f"{home}/generated",
            "RABBITMQ_DIST_PORT": str(self._distribution), "ERL_EPMD_PORT": str(self._names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_ALLOW_INPUT": "1",  # becomes the server, rather than to have it as a child
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
        }  # fmt: skip

    def start(self, empty: bool = False) -> RabbitMQ:
        """Start it and wait until it takes connections. `empty`: without the queues that it had."""
        if empty:
            shutil.rmtree(self._home / "data", ignore_errors=True)
        if self._epmd is None:
            epmd = ["epmd", "-port", str(self._names), "-address", "127.0.0.1"]
            self._epmd = subprocess.Popen(epmd, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        with (self._home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._script], env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=die_with_parent,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"RabbitMQ did not start:\n{self.tail()}")
            time.sleep(0.1)
        return self

    def _answers(self) -> bool:
        import amqp

        try:
            with self.connect():
                return True
        except (OSError, amqp.AMQPError):
            return False

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process
        self._process.kill()
        self._process.wait(STOP_TIMEOUT)
        self._process = None

    def connect(self) -> Any:
        """A connection of py-amqp's."""
        import amqp

        return amqp.Connection(f"127.0.0.1:{self.port}", USER, PASSWORD, connect_timeout=2)

    def consumers(self, queue: str) -> int:
        """How many workers take messages from a queue."""
        with self.connect() as connection:
            return int(connection.channel().queue_declare(queue, passive=True).consumer_count)

    def classic(self, queue: str) -> None:
        """Make a queue that is no quorum queue."""
        with self.connect() as connection:
            connection.channel().queue_declare(queue, durable=True, auto_delete=False)

    def delete(self, *queues: str) -> None:
        """Take queues away, with all that is in them, from those who use them."""
        with self.connect() as connection:
            for queue in queues:
                connection.channel().queue_delete(queue)

    def tail(self) -> str:
        """The end of its log."""
        return (self._home / "server.log").read_text(errors="replace")[-3000:]

    def close(self) -> None:
        """End it and its name service."""
        for process in (self._process, self._epmd):
            if process is not None:
                process.kill()
                process.wait(STOP_TIMEOUT)


@contextmanager
def start(tls: Authority | None = None) -> Iterator[RabbitMQ]:
    """A node that runs for the block."""
    with tempfile.TemporaryDirectory(prefix="keyferry-rabbitmq-", ignore_cleanup_errors=True) as place:
        node = RabbitMQ(Path(place), tls)
        try:
            yield node.start()
        finally:
            node.close()
