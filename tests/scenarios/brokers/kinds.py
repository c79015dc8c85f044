"""Brokers of each kind, as real servers: how each is lost, comes back, and is emptied while it is in use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sync_tasks import names
from tests import rabbitmq
from tests.rabbitmq import RabbitMQ
from tests.sentinels import Sentinels
from tests.servers import Server, free_port, start
from tests.unit.control.tls import Authority

KIND = "redis-7.0"  # Debian's, which speaks TLS
PAGE = Path(__file__).parents[3] / "docs" / "deploy.md"
USER = "keyferry:s3cret%40"


def rights() -> str:
    """Of a user of a Redis, no more than the docs say."""
    found = re.search(r"^ACL SETUSER keyferry on >PASSWORD (.*)$", PAGE.read_text(), re.MULTILINE)
    assert found is not None
    return f"reset on >s3cret@ {found[1]}"


class Rabbit:
    """One node; killed, and started again without its files. Then somebody deletes queues that are in use."""

    node: RabbitMQ
    keeps = False

    @contextmanager
    def running(self, place: Path) -> Iterator[str]:
        with rabbitmq.start() as self.node:
            yield self.node.url()

    def wrong(self) -> dict[str, str]:
        """URLs by which nobody is let in, and the code of what is said then."""
        url = self.node.url()
        return {url.replace("keyferry:", "keyferry:of-others-"): "broker-credentials", f"{url}/none": "broker-vhost"}

    def lose(self) -> None:
        self.node.kill()

    def come_back(self) -> None:
        self.node.start(empty=not self.keeps)

    def empty(self) -> None:
        self.node.delete(*set(names.QUEUES.values()))


class RabbitOverTLS(Rabbit):
    """Killed, and started again with its files."""

    keeps = True

    @contextmanager
    def running(self, place: Path) -> Iterator[str]:
        self.authority = Authority(place / "tls", "127.0.0.1")
        with rabbitmq.start(self.authority) as self.node:
            yield self.node.url(tls=True, query=f"ca={self.authority.ca}")

    def wrong(self) -> dict[str, str]:
        trusted = self.authority.ca
        others = Authority(trusted.parent / "others").ca
        urls = (
            self.node.url(tls=True, query=f"ca={others}"),
            self.node.url(tls=True, query=f"ca={trusted}", host="[::ffff:127.0.0.1]"),
            self.node.url(tls=True),
        )
        return dict.fromkeys(urls, "broker-tls")


class Redis:
    """One that speaks TLS alone to us, wants to see a certificate of ours, and knows us by a user's name."""

    server: Server

    @contextmanager
    def running(self, place: Path) -> Iterator[str]:
        authority, port = Authority(place / "tls", "127.0.0.1"), free_port()
        users = place / "users.acl"
        users.write_text(f"user default on nopass ~* &* +@all\nuser keyferry {rights()}\n")
        config = {**authority.config(clients=True), "tls-port": str(port), "aclfile": str(users)}
        with start(KIND, config=config, dir=place / "broker") as self.server:
            files = f"ssl_ca_certs={authority.ca}&ssl_certfile={authority.cert}&ssl_keyfile={authority.key}"
            yield f"rediss://{USER}@127.0.0.1:{port}/1?{files}"

    def lose(self) -> None:
        self.server.kill()

    def come_back(self) -> None:
        self.server.start()

    def empty(self) -> None:
        self.server.client().flushall()


class Watched:
    """Three Sentinels; their master is killed, and the replica that takes its place is emptied."""

    sentinels: Sentinels

    @contextmanager
    def running(self, place: Path) -> Iterator[str]:
        with Sentinels(KIND, "queue") as self.sentinels:
            for server in self.sentinels["queue"].servers:
                server.client().execute_command("ACL", "SETUSER", "keyferry", *rights().split())
            yield f"redis+sentinel://{USER}@{self.sentinels.address()}/queue"

    def lose(self) -> None:
        self.sentinels["queue"].master.kill()

    def come_back(self) -> None:
        self.sentinels["queue"].heir()

    def empty(self) -> None:
        self.sentinels["queue"].client().flushall()


Kind = Rabbit | Redis | Watched
KINDS: dict[str, type[Kind]] = {"rabbitmq": Rabbit, "sentinel": Watched, "rediss": Redis, "amqps": RabbitOverTLS}
