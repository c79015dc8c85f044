"""Statements past SQLAlchemy mean the same as by it."""

from __future__ import annotations

import pytest
from sqlalchemy import bindparam, select, text, update

from sync_tasks import names
from sync_tasks.errors import ControlError, Retry, is_away
from sync_tasks.models import Lease, Task
from sync_tasks.spec import TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.store import Store
from sync_tasks.store.query import Query
from tests.unit.control.conftest import SOURCE, TARGET, only_postgresql

STATES = Query(
    select(Task.id, Task.state, Task.finishing)
    .where(Task.state.in_([TaskState.NOT_STARTED, TaskState.FAILED]), Task.id > bindparam("after"))
    .order_by(Task.id)
)


def test_lists_and_values_find_what_they_mean(store: Store) -> None:
    ids = [store.create_task(TaskSpec(), SOURCE, TARGET).id for _ in range(3)]
    with store.database.rows() as rows:
        assert [(number, state, bool(end)) for number, state, end in rows(STATES, after=ids[0])] == [
            (number, TaskState.NOT_STARTED, False) for number in ids[1:]
        ]
        assert [number for number, *_ in rows(STATES, after=ids[1])] == ids[2:], "a value of its own each time"
        assert rows(STATES, after=ids[2]) == []


def test_a_value_that_is_missing_is_an_error(store: Store) -> None:
    with pytest.raises(ControlError), store.database.rows() as rows:
        rows(Query(select(Task.id).where(Task.id > bindparam("after"))))


def test_what_is_written_stays_and_what_fails_does_not(store: Store, task_id: int) -> None:
    name = names.node_lease(1)
    beat = Query(update(Lease).where(Lease.name == bindparam("lease")).values(beat=7).returning(Lease.name))
    with store.database.rows() as rows:
        assert rows(beat, lease=name) == [(name,)]
    with pytest.raises(ControlError) as raised, store.database.rows() as rows:
        rows(Query(text("SELECT 1 FROM nowhere")))
    assert raised.value.retry is Retry.OTHER
    assert "nowhere" in raised.value.message
    with store.database.read() as session:
        assert session.get_one(Lease, name).beat == 7, "and the connection is of use again"


@only_postgresql
def test_a_connection_that_is_cut_fails_once_and_without_noise(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ControlError) as raised, store.database.rows() as rows:
        rows(Query(text("SELECT pg_terminate_backend(pg_backend_pid())")))
    assert is_away(raised.value)
    with store.database.rows() as rows:
        assert rows(Query(text("SELECT 7"))) == [(7,)]
    assert not caplog.records
