"""A client on a state directory of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_tasks import Client
from tests.unit.client.worker import Worker

SOURCE = "redis://mover:s3cr%40t@source.example:7000"
TARGET = "redis://:hush@target.example:7001"
SECRETS = ("s3cr", "hush")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own settings."""
    for name in [name for name in os.environ if name.startswith("KEYFERRY_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def client(state: Path) -> Iterator[Client]:
    with Client(state) as made:
        yield made


@pytest.fixture
def worker(client: Client, state: Path) -> Iterator[Worker]:
    with Worker(state) as made:
        yield made
