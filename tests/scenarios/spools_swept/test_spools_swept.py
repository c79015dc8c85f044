"""A task is released while its files lie in the spool of another host than the one that carries the release out."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_tasks import Client
from sync_tasks.store import migrate
from tests.dataset import fill
from tests.hosts import Host, Installation
from tests.servers import StartServer
from tests.waiting import until


def runs(host: Host) -> list[str]:
    """Directories of runs in a host's spool."""
    return [path.name for path in (host.directory / "spool").glob("?" * 16)]


def test_the_spool_of_another_host(server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, broker = server("valkey-9.1"), server("valkey-9.1"), server("valkey-9.1")
    fill(source.client(), 200)
    database = f"sqlite:///{tmp_path}/shared.db"
    migrate(database)
    with Installation(tmp_path, database, f"redis://127.0.0.1:{broker.port}/0") as here:
        for name, value in here.settings.items():
            monkeypatch.setenv(name, value)
        a, b, control = here.host("a"), here.host("b"), here.host("c")
        control.start("scheduler")
        loader = a.start("worker", "--load", "1")
        a.start("worker", "--stream", "1")
        with Client() as client:
            task = client.create(source.url(), target.url(), name="orders-move")
            client.start(task)
            until(lambda: client.progress(task).in_sync, "in sync")
            client.suspend(task)
            assert len(runs(a)) == 1

            # Host a loads nothing while the release is carried out, so it must be b; then a is told.
            loader.kill()
            b.start("worker", "--load", "1")
            client.release(task)
            assert runs(a)
            a.start("worker", "--load", "1")
            until(lambda: not runs(a), "nothing is left")
            assert (a.directory / "spool" / "id").exists()
