"""Transactions; what was measured in SQLite is set, and a fork inherits nothing open."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError

from sync_tasks.errors import ControlError, Retry, SpoolFull
from sync_tasks.models import Task
from sync_tasks.spec import TaskSpec
from sync_tasks.store import Store
from sync_tasks.store.engines import BUSY_TIMEOUT_MS, switch_to_wal
from sync_tasks.store.trouble import explain
from tests.unit.control.conftest import SOURCE, TARGET, only_sqlite


def pragma(store: Store, name: str) -> object:
    with store.database.write() as session:
        return session.execute(text(f"PRAGMA {name}")).scalar()


@only_sqlite
@pytest.mark.parametrize(
    ("name", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("busy_timeout", BUSY_TIMEOUT_MS), ("foreign_keys", 1)],
)
def test_settings_of_sqlite(store: Store, name: str, value: object) -> None:
    assert pragma(store, name) == value


class Locked:
    """A new file that another process is switching, for so many tries."""

    def __init__(self, tries: int, says: str = "database is locked") -> None:
        self.left = tries
        self.says = says

    def execute(self, _statement: str) -> None:
        self.left -= 1
        if self.left >= 0:
            raise sqlite3.OperationalError(self.says)


def test_switching_a_new_file_to_its_log_is_waited_for() -> None:
    """SQLite does not: of eight processes that opened 300 new files at once, one in 100 was told "locked"."""
    switch_to_wal(Locked(3))  # type: ignore[arg-type]
    with pytest.raises(sqlite3.OperationalError, match="I/O"):
        switch_to_wal(Locked(3, "disk I/O error"))  # type: ignore[arg-type]


def test_a_reader_does_not_wait_for_a_writer(store: Store, task_id: int) -> None:
    with store.database.write() as session:
        session.execute(text("UPDATE task SET name = 'changed'"))
        assert store.task(task_id).name != "changed"
    assert store.task(task_id).name == "changed"


def test_a_reader_sees_one_state(store: Store, task_id: int) -> None:
    with store.database.read() as session:
        count = select(func.count()).select_from(Task)
        assert session.scalar(count) == 1
        store.create_task(TaskSpec(), SOURCE, TARGET)
        assert session.scalar(count) == 1
    assert len(store.tasks()) == 2


def test_a_failed_transaction_leaves_nothing(store: Store, task_id: int) -> None:
    def broken() -> None:
        with store.database.write() as session:
            session.execute(text("UPDATE task SET name = 'changed'"))
            raise KeyError("x")

    with pytest.raises(KeyError):
        broken()
    assert store.task(task_id).name != "changed"


def open_files(name: str) -> int:
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue
    return sum(name in link for link in links)


def in_fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@only_sqlite
def test_a_fork_inherits_no_open_database(store: Store, task_id: int) -> None:
    """A child that held a parent's file would believe it held the parent's locks."""
    store.task(task_id)
    assert open_files("keyferry.db") > 0

    def child() -> None:
        assert open_files("keyferry.db") == 0
        store.stop(task_id)
        assert open_files("keyferry.db") > 0

    assert in_fork(child) == 0
    assert not store.nodes(task_id)[0].wanted
    assert store.task(task_id).id == task_id, "the parent goes on"


def test_a_disposed_store_opens_again(store: Store, task_id: int) -> None:
    store.dispose()
    if store.database.sqlite:
        assert open_files("keyferry.db") == 0
    assert store.task(task_id).id == task_id


def test_a_full_disk_heals_and_other_failures_are_named() -> None:
    full = explain(OperationalError("INSERT", {}, Exception("database or disk is full")))
    assert (type(full), full.retry) == (SpoolFull, Retry.OTHER)
    other = explain(OperationalError("INSERT", {}, Exception("disk I/O error")))
    assert (type(other), other.retry) == (ControlError, Retry.OTHER)
    assert "disk I/O error" in other.message
    assert "INSERT" not in other.line()
