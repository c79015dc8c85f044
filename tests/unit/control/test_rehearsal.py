"""What forked processes share: compiled statements of a life on a database in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine.interfaces import CacheStats

from sync_tasks.errors import ConnectionLost, Side
from sync_tasks.secrets import SecretBox, new_key
from sync_tasks.spec import TaskSpec
from sync_tasks.store import Database, Store, rehearse
from tests.unit.control.conftest import SOURCE, TARGET, started
from tests.unit.control.test_database import in_fork, open_files


@pytest.fixture
def rehearsed(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/keyferry.db")
    rehearse(database)
    yield database
    database.dispose()


def job(store: Store) -> None:
    """What a stream and a loader ask of the database for one task, from its start until it is in sync."""
    port = store.claim_node(1, "h:1:2:x", "0123456789ab")
    assert port is not None
    store.endpoints(1)
    assert port.renew().wanted
    port.raise_epoch(1 << 20)
    assert port.node().gen == 0
    gen = port.begin_snapshot("r" * 40, 500, 0, 100, None, 3)
    port.event("snapshot", "snapshot 3")
    chunk = port.add_chunk(gen=gen, seq=0, db=0, shard=4, huge=False, path="c", keys=100, size=4000)
    port.progress({"stream_db": 0})
    port.healed("source")
    port.end_snapshot(gen, 100, 4000)
    loader = store.claim_chunk(chunk, "h:1:3:x")
    assert loader is not None
    loader.renew(50)
    loader.done(100)
    assert port.load_state(gen).done == 1
    port.begin_stream()
    port.took_up()
    values = {"received_offset": 600, "applied_offset": 600, "source_offset": None, "in_sync": False, "held": None}
    port.progress({**values, "settled": False, "delay_ms": None})
    port.failing(ConnectionLost("cut", side=Side.TARGET))
    port.healed("target")
    store.release_node(1, port.epoch)


def test_it_touches_no_file_and_leaves_none_open(tmp_path: Path, rehearsed: Database) -> None:
    assert list(tmp_path.iterdir()) == []
    Store(rehearsed, SecretBox()).migrate()
    assert open_files("keyferry.db") > 0, "from now on it is the file"
    assert Store(rehearsed, SecretBox()).tasks() == []


def test_a_forked_process_compiles_nothing_that_was_rehearsed(tmp_path: Path, rehearsed: Database) -> None:
    before = Store(f"sqlite:///{tmp_path}/keyferry.db", SecretBox(new_key()))
    before.migrate()
    started(before, before.create_task(TaskSpec(), SOURCE, TARGET).id)
    compiled: list[str] = []

    @event.listens_for(rehearsed.engine(), "before_cursor_execute")
    def look(_c: object, _k: object, statement: str, _p: object, context: Any, _m: object) -> None:
        if context.cache_hit is CacheStats.CACHE_MISS:
            compiled.append(statement)

    def child() -> None:
        store = Store(rehearsed, before._box, lambda _: None)
        job(store)
        store.dispose()
        (tmp_path / "compiled").write_text("\n".join(compiled))

    assert in_fork(child) == 0
    before.dispose()
    assert (tmp_path / "compiled").read_text() == ""


def test_postgresql_is_not_asked() -> None:
    """Its classes are worked out elsewhere; nothing can be compiled for it without a server."""
    pytest.importorskip("psycopg")
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    rehearse(database)
    assert database._writer is None, "not even an engine was made"
