"""PostgreSQL alone: its waits end, and a lost connection is an error that heals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from sync_tasks.errors import ControlError, Fenced, KeyferryError, Retry, Side, SourceError, SpoolFull, TargetBusy
from sync_tasks.models import Chunk, Task
from sync_tasks.secrets import SecretBox
from sync_tasks.store import Store, engines, leases, locks
from sync_tasks.store.database import Database
from sync_tasks.store.engines import BUSY_TIMEOUT_MS, STALLED_MS
from sync_tasks.store.stream import AWAY_S
from sync_tasks.store.trouble import DISK_FULL, explain
from tests.unit.control.conftest import Wall, chunk
from tests.unit.control.databases import Postgresql
from tests.unit.control.processes import PROCESSES, in_processes

CHUNKS = 16
T = TypeVar("T")

pytestmark = pytest.mark.long


@pytest.fixture
def backend() -> str:
    return "postgresql"


def setting(url: str, name: str) -> str:
    store = Store(url, SecretBox())
    with store.database.read() as session:
        value = session.execute(text(f"SHOW {name}")).scalar_one()
    store.dispose()
    return str(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lock_timeout", f"{BUSY_TIMEOUT_MS // 1000}s"),
        ("idle_in_transaction_session_timeout", f"{STALLED_MS // 1000}s"),
        ("application_name", "keyferry"),
    ],
)
def test_settings_of_a_session(rows: Postgresql, name: str, value: str) -> None:
    assert setting(rows.url, name) == value


def test_what_the_url_says_goes_first(rows: Postgresql) -> None:
    url = make_url(rows.url).update_query_dict({"application_name": "mine", "options": "-c lock_timeout=1s"})
    assert setting(url.render_as_string(), "application_name") == "mine"
    assert setting(url.render_as_string(), "lock_timeout") == "1s"


def test_a_reader_cannot_write(store: Store, task_id: int) -> None:
    with pytest.raises(ControlError, match="read-only"), store.database.read() as session:
        session.execute(update(Task).values(name="changed"))


def test_a_connection_cut_in_mid_transaction_leaves_nothing_and_heals(
    store: Store, task_id: int, rows: Postgresql
) -> None:

    def cut() -> None:
        with store.database.write() as session:
            session.execute(update(Task).values(name="changed"))
            assert rows.cut() >= 1
            session.execute(update(Task).values(name="changed again"))

    for _ in range(3):
        with pytest.raises(ControlError, match=r"terminating|closed") as caught:
            cut()
        assert (caught.value.retry, caught.value.exit_code) == (Retry.OTHER, 5)
        assert "UPDATE" not in caught.value.line()
        assert "changed" not in store.task(task_id).name


def test_a_connection_cut_before_the_commit(store: Store, task_id: int, rows: Postgresql) -> None:

    def write() -> None:
        with store.database.write() as session:
            session.execute(update(Task).values(name="changed"))
            rows.cut()

    with pytest.raises(ControlError) as caught:
        write()
    assert caught.value.retry is Retry.OTHER
    assert store.task(task_id).name != "changed"


def test_an_idle_connection_that_was_cut_costs_nothing(store: Store, task_id: int, rows: Postgresql) -> None:
    """So does a server restarted between two beats."""
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    assert rows.cut() >= 1
    assert handle.renew().wanted
    rows.cut()
    assert store.task(task_id).id == task_id


def patiently(work: Callable[[], T]) -> T | None:
    """Try it until the database answers; None if it turns out that it was done the last time."""
    while True:
        try:
            return work()
        except Fenced:
            return None
        except ControlError as error:
            if error.retry is not Retry.OTHER:
                raise


def test_work_goes_on_while_connections_are_cut_all_the_time(
    store: Store, task_id: int, rows: Postgresql, wall: Wall
) -> None:
    handle = store.claim_node(1, "h:0:0:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    ids = [handle.add_chunk(**chunk(seq)) for seq in range(CHUNKS)]  # type: ignore[arg-type]
    ended = threading.Event()

    def cut() -> None:
        while not ended.wait(0.05):
            rows.cut()

    def load(number: int) -> None:
        owner = f"h:{number}:1:x"
        for chunk_id in ids[number::PROCESSES]:
            while (taken := patiently(lambda chunk_id=chunk_id: store.claim_chunk(chunk_id, owner))) is None:
                # Claimed, but the answer was cut off.
                patiently(lambda: store.release_owner(owner))
                wall.now += 60  # of this process alone: no pause lasts so long
            patiently(lambda taken=taken: taken.renew(5))
            patiently(lambda taken=taken: taken.done(10))

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        in_processes(load)
    finally:
        ended.set()
        thread.join()
        state = handle.load_state(1)
    assert (state.done, state.keys_done) == (CHUNKS, CHUNKS * 10)


def test_a_server_that_is_away_heals(tmp_path: object) -> None:
    store = Store(f"postgresql+psycopg://u:hush@/k?host={tmp_path}", SecretBox())
    with pytest.raises(ControlError, match="connection") as caught:
        store.tasks()
    assert caught.value.retry is Retry.OTHER
    assert "hush" not in caught.value.line()
    assert "set up" not in caught.value.hint


def test_a_failure_is_retried_without_being_counted_while_the_server_is_away(
    store: Store, task_id: int, tmp_path: Path
) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle._db = Database(f"postgresql+psycopg://u@/k?host={tmp_path}")
    assert handle.failing(TargetBusy("OOM")) == AWAY_S
    assert store.retries(task_id) == []
    with pytest.raises(SourceError):
        handle.failing(SourceError("no"))


def test_a_lock_is_not_waited_for_for_ever(store: Store, task_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engines.SESSION, "lock_timeout", 200)
    other = Store(store.database.url, SecretBox())
    with store.database.write() as session:
        locks.task(session, task_id)
        begun = time.monotonic()
        with pytest.raises(ControlError, match="lock timeout") as caught:
            other.fail(task_id, TargetBusy("OOM"))
        assert 0.1 < time.monotonic() - begun < 5
    assert caught.value.retry is Retry.OTHER
    other.dispose()


def test_who_stalls_in_mid_transaction_loses_its_locks(
    store: Store, task_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process stopped there would else hold up the whole task."""
    monkeypatch.setitem(engines.SESSION, "idle_in_transaction_session_timeout", 200)
    stalled = Store(store.database.url, SecretBox())

    def stall() -> None:
        with stalled.database.write() as session:
            locks.task(session, task_id).name = "changed"
            session.flush()
            store.fail(task_id, TargetBusy("OOM"))

    with pytest.raises(ControlError, match="idle-in-transaction") as caught:
        stall()
    assert caught.value.retry is Retry.OTHER
    assert store.task(task_id).name != "changed"
    stalled.dispose()


def test_a_claim_does_not_wait_for_who_holds_the_chunk(store: Store, task_id: int) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    chunk_id = handle.add_chunk(**chunk(0))  # type: ignore[arg-type]
    with store.database.write() as session:
        session.get_one(Chunk, chunk_id, with_for_update=True)
        begun = time.monotonic()
        assert store.claim_chunk(chunk_id, "h:1:3:x") is None
        assert time.monotonic() - begun < 5
    assert store.claim_chunk(chunk_id, "h:1:3:x") is not None


def test_a_claim_sees_what_its_predecessor_left(store: Store, task_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole turn of another, with a spool of its own, fits between our first look and our claim."""
    first = store.claim_node(1, "h:1:2:x", "here")
    assert first is not None
    store.release_node(1, first.epoch)
    claim = leases.claim

    def late(session: Session, name: str, owner: str) -> int | None:
        monkeypatch.undo()
        between = store.claim_node(1, "h:9:9:y", "there")
        assert between is not None
        store.release_node(1, between.epoch)
        return claim(session, name, owner)

    monkeypatch.setattr(leases, "claim", late)
    second = store.claim_node(1, "h:1:3:x", "here")
    assert second is not None
    assert second.moved


def test_a_fork_has_connections_of_its_own(store: Store, task_id: int) -> None:
    def session() -> int:
        with store.database.read() as reader:
            return int(reader.execute(text("SELECT pg_backend_pid()")).scalar_one())

    before = session()
    inside = set(in_processes(lambda _: session()))
    assert len(inside) == PROCESSES
    assert before not in inside
    assert session() > 0, "the parent goes on"


def test_urls_without_a_driver_take_ours_and_a_missing_one_is_named() -> None:
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        assert engines.engines(f"{scheme}://u@h/k")[1].driver == "psycopg"
    with pytest.raises(ControlError, match="driver of the database is missing: psycopg2") as caught:
        Store("postgresql+psycopg2://u:hush@h/k", SecretBox()).tasks()
    assert "pip install" in caught.value.hint


class Full(Exception):
    sqlstate = DISK_FULL


def test_a_full_disk_of_the_server_heals() -> None:
    said = 'could not extend file "base/1/2": No space left on device\nHINT: Check free disk space.'
    full: KeyferryError = explain(OperationalError("INSERT", {}, Full(said)))
    assert (type(full), full.retry, full.side) == (SpoolFull, Retry.OTHER, Side.CONTROL)
