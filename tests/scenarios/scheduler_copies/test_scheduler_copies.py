"""Two schedulers on one database, of two hosts: the one that leads is killed, or stopped and woken up again."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.names import SCHEDULER_LEASE
from sync_tasks.settings import Settings
from sync_tasks.spec import TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.store import Store
from sync_tasks.store.stream import StreamHandle
from tests.halting import halt
from tests.hosts import Installation, Process
from tests.waiting import seconds_until, until
from workers.beat import Beat

LEADS_WITHIN_S = 5.0  # 3 s after the last beat was seen; of another host nobody knows whether its process is there
WATCHED_S = 2.0  # after it was woken up: eight ticks, two renewals


def lease(here: Installation) -> dict[str, Any]:
    """The scheduler's."""
    found = [row for row in here.rows("lease") if row["name"] == SCHEDULER_LEASE]
    return found[0] if found else {"owner": None}


def leads(here: Installation, process: Process) -> bool:
    """It holds the lease and has renewed it."""
    now = lease(here)
    return bool(now["owner"]) and now["owner"].split(":")[1] == str(process.popen.pid) and now["beat"] > 0


def stands_by(process: Process) -> bool:
    """It has the database open."""
    return any(file.path.endswith("keyferry.db") for file in psutil.Process(process.popen.pid).open_files())


@pytest.fixture
def pair(here: Installation) -> tuple[Process, Process]:
    """One that leads, one that stands by."""
    (first,) = here.controlled().processes
    until(lambda: leads(here, first), "a leader")
    second = here.host("b").start("scheduler")
    until(lambda: stands_by(second), "a second that has looked at the lease")
    return first, second


@pytest.fixture
def stream(pair: object) -> Iterator[StreamHandle]:
    """A stream whose owner is this test."""
    store = Store.of(Settings())
    ends = [Endpoint.parse(f"redis://127.0.0.1:{port}", side) for port, side in ((1, Side.SOURCE), (2, Side.TARGET))]
    task = store.create_task(TaskSpec(), *ends)
    for state in (TaskState.PRECHECKING, TaskState.PRECHECK_PASSED):
        store.transition(task.id, state, "test")
    store.start(task.id)
    handle = store.claim_node(1, "test:1:1:x")
    assert handle is not None
    with Beat(handle.renew):
        yield handle
    store.dispose()


def test_the_leader_is_killed(here: Installation, pair: tuple[Process, Process], stream: StreamHandle) -> None:
    first, second = pair
    before = lease(here)
    first.kill()
    took = seconds_until(lambda: lease(here)["owner"] != before["owner"], "another leads", LEADS_WITHIN_S)
    print(f"took {took:.2f} s")
    until(lambda: leads(here, second), "it is the one that stood by")
    assert lease(here)["epoch"] == before["epoch"] + 1
    stream.renew()  # it was not taken from its owner


def test_the_leader_is_stopped_and_woken_up(
    here: Installation, broker: Any, pair: tuple[Process, Process], stream: StreamHandle, tmp_path: Path
) -> None:
    first, second = pair
    before = lease(here)["epoch"]
    halt(psutil.Process(first.popen.pid), tmp_path / "keyferry.db")
    until(lambda: leads(here, second), "the other leads")
    held, messages = lease(here), broker.client().llen("kf:kf.stream")
    assert held["epoch"] == before + 1

    first.popen.send_signal(signal.SIGCONT)
    over = time.monotonic() + WATCHED_S
    while time.monotonic() < over:
        now = lease(here)
        assert (now["owner"], now["epoch"]) == (held["owner"], held["epoch"])
        time.sleep(0.05)
    assert lease(here)["beat"] > held["beat"]
    stream.renew()  # silent for so long, as it may have seemed to the one that slept
    assert broker.client().llen("kf:kf.stream") == messages, "it sent what has an owner"

    assert second.stop() == 0
    until(lambda: leads(here, first), "the first leads again")
    assert lease(here)["epoch"] == before + 2
