"""A store on SQLite with a clock that only tests move."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from sync_tasks import names
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.secrets import SecretBox, new_key
from sync_tasks.spec import TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.store import Store, migrate

SOURCE = Endpoint.parse("redis://mover:s3cr%40t@source.example:7000", Side.SOURCE)
TARGET = Endpoint.parse("redis://:hush@target.example:7001", Side.TARGET)


class Wall:
    """Unix seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Outbox:
    """Takes messages; refuses while `broken`."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []
        self.broken = False
        self.queued = 0  # messages that no worker has taken

    def send(self, name: str, row_id: int) -> None:
        if self.broken:
            raise ConnectionRefusedError
        self.sent.append((name, row_id))

    def waiting(self, name: str) -> int:
        if self.broken:
            raise ConnectionRefusedError
        return self.queued if name == names.LOAD else 0


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/keyferry.db"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without tasks, to be copied: making one takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "keyferry.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(template: Path, tmp_path: Path, url: str, wall: Wall, outbox: Outbox) -> Iterator[Store]:
    shutil.copy(template, tmp_path / "keyferry.db")
    made = Store(url, SecretBox(new_key()), outbox.send, clock=wall, rng=Random(1))
    yield made
    made.dispose()


@pytest.fixture
def task_id(store: Store) -> int:
    """A task that was started; its node is number 0, id 1."""
    task = store.create_task(TaskSpec(), SOURCE, TARGET)
    store.transition(task.id, TaskState.PRECHECKING, "test")
    store.transition(task.id, TaskState.PRECHECK_PASSED, "test")
    store.start(task.id)
    return task.id


def chunk(seq: int = 0, gen: int = 1, keys: int = 10, size: int = 1000) -> dict[str, object]:
    """Arguments of `add_chunk`."""
    place = {"gen": gen, "seq": seq, "db": 0, "shard": 0, "path": f"c{seq}"}
    return {**place, "huge": False, "keys": keys, "size": size}
