"""The containers of deploy/compose as processes: all come up, and each is restarted in turn under traffic."""

from __future__ import annotations

import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import NullPool, create_engine, text

from sync_tasks import Client
from sync_tasks.supervise.pulse import seen
from tests.dataset import fill
from tests.deploy.compose import Composed, Container, broker_config, services
from tests.deploy.tools import ROOT
from tests.hosts import PASSWORD, Installation
from tests.postgres import start as postgres
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until

DELAY_S = 5.0
"""The most that a restart of everything, one container after the other, may hold back any write."""
CANARY = "canary"


@pytest.fixture
def variables() -> dict[str, str]:
    from sync_tasks.secrets import new_key

    key = new_key().decode()
    return {
        "POSTGRES_PASSWORD": "p", "BROKER_PASSWORD": "b", "FLOWER_PASSWORD": PASSWORD, "GRAFANA_PASSWORD": "g",
        "KEYFERRY_SECRET_KEY": key,
    }  # fmt: skip


@pytest.fixture
def here(
    tmp_path: Path, server: StartServer, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    """With the broker as the file starts it, and PostgreSQL."""
    config = broker_config(services(variables)["broker"])
    broker = server("valkey-9.1", config=config)
    with (
        postgres() as url,
        Installation(tmp_path, url, f"redis://:{config['requirepass']}@127.0.0.1:{broker.port}/0") as made,
    ):
        made.settings["KEYFERRY_SECRET_KEY"] = variables["KEYFERRY_SECRET_KEY"]
        for name, value in made.settings.items():
            monkeypatch.setenv(name, value)
        yield made


class Canary(threading.Thread):
    """Writes the time to the source, all along, and sees how old what the target has is."""

    def __init__(self, source: Server, target: Server) -> None:
        super().__init__(daemon=True)
        self.source, self.target = source, target
        self.over = threading.Event()
        self.worst_s = 0.0
        self.looks = 0
        self.failed: redis.RedisError | None = None

    def run(self) -> None:
        try:
            with self.source.client() as source, self.target.client() as target:
                while not self.over.wait(0.02):
                    source.set(CANARY, repr(time.monotonic()))
                    arrived = target.get(CANARY)
                    if arrived is not None:
                        self.worst_s = max(self.worst_s, time.monotonic() - float(arrived))
                        self.looks += 1
        except redis.RedisError as error:
            self.failed = error

    def end(self) -> None:
        self.over.set()
        self.join()


def waiting_chunks(here: Installation) -> int:
    """What KEDA asks the database by the chart."""
    chart = ROOT / "deploy" / "helm" / "keyferry" / "templates" / "keda.yaml"
    (query,) = re.findall(r'query: "(.*)"', chart.read_text())
    engine = create_engine(here.settings["KEYFERRY_DATABASE_URL"], poolclass=NullPool)
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def ready(container: Container) -> bool:
    """As its health check and Kubernetes' readiness probe see it."""
    if container.service.name in ("flower", "metrics"):
        return "http://0.0.0.0:" in container.host.report()
    return any(one.ready and not one.late for one in seen(container.host.directory))


def status(here: Installation, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{here.flower_port}{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_everything_is_restarted_in_turn(
    here: Installation, variables: dict[str, str], server: StartServer, tmp_path: Path
) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 400)
    made = Composed(here, variables, tmp_path / "spool")
    containers = made.up()
    assert sorted(one.service.name for one in containers) == [
        "flower", "load", "metrics", "scheduler", "scheduler", "stream", "stream",
    ]  # fmt: skip
    for one in containers:
        until(lambda one=one: ready(one), f"{one.host.name} is ready")
    until(lambda: len(here.flower("/api/workers")) == 3, "three workers in Flower")
    assert [status(here, path) for path in ("/api/workers", "/metrics", "/healthcheck")] == [401, 404, 404]

    with Client() as client:
        task = client.create(source.url(), target.url(), name="orders-move")
        with Traffic(source, clients=2, rate=1000):
            client.start(task)
            until(lambda: client.progress(task).in_sync, "in sync")
            canary = Canary(source, target)
            canary.start()
            until(lambda: canary.looks > 10, "the canary")
            owners = []
            for one in containers:
                code = one.stop()
                assert code == {"flower": 143, "metrics": 143}.get(one.service.name, 0), one.host.report()
                owners.append(here.owner("node:1").partition(":")[0])
                one.start()
                until(lambda one=one: ready(one), f"{one.host.name} is ready again")
            until(lambda: here.owner("node:1"), "an owner at the end")
            canary.end()
            assert canary.failed is None
            print(f"held back by {canary.worst_s:.2f} s at most")
            assert canary.worst_s < DELAY_S
            assert len(set(owners) - {""}) > 1, f"the stream never changed hands: {owners}"
        end = int(source.client().info("replication")["master_repl_offset"])
        until(lambda: client.progress(task).in_sync and (client.progress(task).applied_offset or 0) >= end, "the end")
    equal(source, target)
    assert snapshots(source) == 1
    assert waiting_chunks(here) == 0
    assert here.rows("chunk"), "KEDA's question would count those that were"
