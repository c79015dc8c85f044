"""A store on SQLite and on PostgreSQL, with a clock that only tests move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from random import Random

import pytest

from sync_tasks import names
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.messages import Message
from sync_tasks.secrets import SecretBox, new_key
from sync_tasks.spec import TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.store import Store
from tests.unit.control import lock_order
from tests.unit.control.databases import Emptied, Postgresql, Sqlite, created
from tests.unit.control.statements import Statements, counted

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
        self.messages: list[Message] = []  # the same, whole
        self.broken = False
        self.queued = 0  # messages that no worker has taken

    def send(self, message: Message) -> None:
        if self.broken:
            raise ConnectionRefusedError
        self.sent.append((message.name, message.id))
        self.messages.append(message)

    def waiting(self, queue: str) -> int:
        if self.broken:
            raise ConnectionRefusedError
        return self.queued if queue == names.QUEUE_LOAD else 0


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


BACKENDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)]
only_sqlite = pytest.mark.parametrize("backend", BACKENDS[:1])
only_postgresql = pytest.mark.parametrize("backend", BACKENDS[1:])


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of database: every test that uses one runs on each kind."""
    found: str = request.param
    return found


@pytest.fixture(scope="session")
def sqlite_rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sqlite]:
    rows = Sqlite(tmp_path_factory.mktemp("rows"))
    yield rows
    rows.close()


@pytest.fixture(scope="session")
def postgresql_rows(postgres: str) -> Iterator[Postgresql]:
    with created(postgres) as url:
        rows = Postgresql(url)
        yield rows
        rows.close()


@pytest.fixture
def rows(backend: str, request: pytest.FixtureRequest) -> Emptied:
    """A database with all tables and no rows."""
    found: Emptied = request.getfixturevalue(f"{backend}_rows")
    found.clear()
    return found


@pytest.fixture
def url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database without tables."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
    else:
        with created(request.getfixturevalue("postgres")) as found:
            yield found


@pytest.fixture
def store(rows: Emptied, wall: Wall, outbox: Outbox) -> Iterator[Store]:
    made = Store(rows.url, SecretBox(new_key()), outbox.send, clock=wall, rng=Random(1))
    made.database = rows.database
    with nullcontext() if made.database.sqlite else lock_order.watched():
        yield made


@pytest.fixture
def statements(store: Store) -> Iterator[Statements]:
    with counted(store.database) as found:
        yield found


def started(store: Store, task_id: int) -> int:
    """The same task, started."""
    store.transition(task_id, TaskState.PRECHECKING, "test")
    store.transition(task_id, TaskState.PRECHECK_PASSED, "test")
    store.start(task_id)
    return task_id


@pytest.fixture
def task_id(store: Store) -> int:
    """A task that was started; its node is number 0, id 1."""
    return started(store, store.create_task(TaskSpec(), SOURCE, TARGET).id)


def chunk(seq: int = 0, gen: int = 1, keys: int = 10, size: int = 1000) -> dict[str, object]:
    """Arguments of `add_chunk`."""
    place = {"gen": gen, "seq": seq, "db": 0, "shard": 0, "path": f"c{seq}"}
    return {**place, "huge": False, "keys": keys, "size": size}
