"""Fixtures of the scenarios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clusters import Cluster
from tests.hosts import Installation
from tests.proxy import Proxy
from tests.run_keyferry import Keyferry
from tests.servers import Server, StartServer

StartFerry = Callable[..., Keyferry]
StartCluster = Callable[..., Cluster]
Sync = Callable[[str, str], Keyferry]


@pytest.fixture
def ferry(tmp_path: Path) -> Iterator[StartFerry]:
    """Starts the command, `ferry(source, target)`, always on one state directory; killed with the test."""
    with ExitStack() as stack:

        def begin(source: Server, target: Server | Proxy, **kw: Any) -> Keyferry:
            run = Keyferry(source.url(), target.url(), tmp_path / "state", **kw)
            stack.callback(lambda: print(run.report()))
            return stack.enter_context(run)

        yield begin


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Of what all hosts share; on one machine a file will do."""
    return f"sqlite:///{tmp_path}/keyferry.db"


@pytest.fixture
def broker(server: StartServer) -> Server:
    """Of all hosts."""
    return server("valkey-9.1")


@pytest.fixture
def here(tmp_path: Path, database_url: str, broker: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """An installation whose hosts end with the test; the test's own `Client()` belongs to it."""
    with Installation(tmp_path, database_url, f"redis://127.0.0.1:{broker.port}/0") as made:
        for name, value in made.settings.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def cluster() -> Iterator[StartCluster]:
    """Starts clusters that end with the test."""
    with ExitStack() as stack:

        def begin(*args: object, **kw: object) -> Cluster:
            return stack.enter_context(Cluster(*args, **kw))  # type: ignore[arg-type]

        yield begin


@pytest.fixture
def sync(tmp_path: Path) -> Iterator[Sync]:
    """Starts the command, always on one state directory; killed with the test."""
    with ExitStack() as stack:

        def begin(source: str, target: str) -> Keyferry:
            run = Keyferry(source, target, tmp_path / "state")
            stack.callback(lambda: print(run.report()))
            return stack.enter_context(run)

        yield begin
