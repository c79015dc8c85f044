"""The process: stops at once, and outlives its broker and database."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scheduler.clock import LivedClock
from scheduler.main import CALM_TICK_S, TICK_S, Stop, Stopped, loop, run
from sync_tasks import app, names
from sync_tasks.errors import ControlError
from sync_tasks.models import Lease, Node
from sync_tasks.secrets import SecretBox
from sync_tasks.settings import Settings
from sync_tasks.spec import TaskSpec
from sync_tasks.store import Store
from tests.unit.control.conftest import SOURCE, TARGET, only_postgresql, only_sqlite
from tests.unit.control.conftest import started as start
from tests.unit.control.databases import Emptied, Postgresql

AT_ONCE_S = 1.5  # on a busy machine; a broker that hangs would hold it for half a minute


@pytest.fixture
def settings(tmp_path: Path, rows: Emptied) -> Settings:
    return Settings(state_dir=tmp_path, database_url=rows.url)


@pytest.fixture
def started(settings: Settings) -> Iterator[Store]:
    store = Store(settings.database(), SecretBox())
    start(store, store.create_task(TaskSpec(), SOURCE, TARGET).id)
    yield store
    store.dispose()


@contextmanager
def scheduler(settings: Settings) -> Iterator[multiprocessing.process.BaseProcess]:
    child = multiprocessing.get_context("fork").Process(target=run, args=(settings,))
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()


def leads(store: Store) -> bool:
    with store.database.read() as session:
        lease = session.get(Lease, names.SCHEDULER_LEASE)
        return lease is not None and lease.owner is not None


def wait(condition: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def marked(store: Store) -> bool:
    with store.database.read() as session:
        return session.get_one(Node, 1).dispatched_at is not None


def stop(child: multiprocessing.process.BaseProcess) -> float:
    begun = time.monotonic()
    os.kill(child.pid or 0, signal.SIGTERM)
    child.join(10)
    assert child.exitcode == 0
    return time.monotonic() - begun


def test_it_sends_what_is_due_and_stops_at_once(settings: Settings, started: Store, server: object) -> None:
    broker = server("redis-7.0")  # type: ignore[operator]
    with_broker = settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{broker.port}/0"})
    begun = time.monotonic()
    with scheduler(with_broker) as child:
        celery = app.make_app(with_broker)
        wait(lambda: app.waiting(celery, names.QUEUE_STREAM) == 1)
        assert time.monotonic() - begun < 10.0
        assert stop(child) < AT_ONCE_S
    assert not leads(started), "the next one leads at once"


@only_sqlite
def test_it_stops_at_once_and_lives_on_without_a_broker(settings: Settings, started: Store) -> None:
    with scheduler(settings) as child:
        wait(lambda: leads(started))
        time.sleep(0.8)
        assert child.is_alive()
        wait(lambda: not marked(started))  # it was not sent
        assert stop(child) < AT_ONCE_S


@only_sqlite
def test_a_broker_that_hangs_does_not_hold_it(settings: Settings, started: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        hanging = settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{port}/0"})
        with scheduler(hanging) as child:
            wait(lambda: leads(started))
            time.sleep(0.7)
            assert stop(child) < AT_ONCE_S


@only_sqlite
def test_ctrl_c_ends_it_like_sigterm(settings: Settings, started: Store) -> None:
    """Children of `sync` and `up` are out of its reach: they have process groups of their own."""
    with scheduler(settings) as child:
        wait(lambda: leads(started))
        os.kill(child.pid or 0, signal.SIGINT)
        child.join(10)
        assert child.exitcode == 0
    assert not leads(started)


@only_postgresql
def test_it_outlives_its_connections(
    settings: Settings, started: Store, rows: Postgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.main.TROUBLED_S", 0.0)

    def beat() -> int:
        with started.database.read() as session:
            return session.get_one(Lease, names.SCHEDULER_LEASE).beat

    with scheduler(settings) as child:
        wait(lambda: leads(started))
        for _ in range(20):
            rows.cut()
            time.sleep(0.05)
        before = beat()
        wait(lambda: beat() > before)
        assert child.is_alive()
        assert stop(child) < AT_ONCE_S


def test_the_loop_outlives_the_database(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.main.TROUBLED_S", 0.0)
    ended = threading.Event()
    ticks = []

    def tick(now: float) -> None:
        ticks.append(now)
        if len(ticks) == 3:
            ended.set()
        raise ControlError("the database answers: disk I/O error", hint="look")

    with caplog.at_level(logging.ERROR):
        loop(tick, LivedClock(time.monotonic), ended)
    assert len(ticks) == 3
    assert "disk I/O error" in caplog.text


def test_it_ticks_slower_when_nothing_was_due_for_a_while() -> None:
    now: list[float] = [0.0]
    pauses: list[float | None] = []

    class Ended(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout)
            now[0] += timeout or 0.0
            if now[0] > 30:
                self.set()
            return self.is_set()

    loop(lambda at: 15 < at < 15.9, LivedClock(lambda: now[0]), Ended())
    calm = [pause == CALM_TICK_S for pause in pauses]
    assert [is_calm for is_calm, _ in itertools.groupby(calm)] == [False, True, False, True]
    assert set(pauses) == {TICK_S, CALM_TICK_S}


def test_while_the_database_is_away_no_time_is_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could write a beat or a success meanwhile: at its return all owners would look dead, and windows past."""
    monkeypatch.setattr("scheduler.main.TROUBLED_S", 0.0)
    ended = threading.Event()
    now, lived = [0.0], []

    def tick(at: float) -> None:
        lived.append(at)
        now[0] += 1.0  # the database keeps it waiting
        if len(lived) == 60:
            ended.set()
        raise ControlError("the database answers: gone", hint="look")

    loop(tick, LivedClock(lambda: now[0]), ended)
    assert lived[-1] == lived[0]


def test_a_stop_that_came_before_a_blocking_call_is_not_missed() -> None:
    stopping = Stop()
    stopping.event.set()
    with pytest.raises(Stopped), stopping.interruptible():
        pytest.fail("the call was made")
